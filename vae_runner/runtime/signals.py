"""Ctrl-C, SIGTERM, and SIGHUP when a terminal is closed: which are answered, and how before there is a run."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vae_runner.errors import Interrupted

ANSWERED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_heard: list[int] = []


def answered() -> list[signal.Signals]:
    """Those that this process answers: `nohup` has it ignore that the terminal is closed."""
    return [n for n in ANSWERED if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def raised() -> Iterator[None]:
    """Inside, a signal raises Interrupted where it finds the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _heard.clear()
    before = {number: signal.signal(number, _raise) for number in answered()}
    told_of, sys.unraisablehook = sys.unraisablehook, _silent_of_interruptions
    try:
        yield
    finally:
        sys.unraisablehook = told_of
        for number, handler in before.items():
            if signal.getsignal(number) == _raise:  # and nothing that is to answer until the process ends
                signal.signal(number, handler)


def ignore() -> None:
    """Answer no more signals: the process is about to end."""
    for number in ANSWERED:
        signal.signal(number, signal.SIG_IGN)


def end_if_heard() -> None:
    """Raise it again, where something that swallows exceptions may have had it: the import of a library, say.

    Raises:
        Interrupted: there has been a signal.
    """
    if _heard:
        raise Interrupted(_heard[0])


def _silent_of_interruptions(unraisable: Any) -> None:
    """Python tells of what is raised where nothing takes it, in a `__del__`: a signal there is answered later."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _raise(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    raise Interrupted(number)
