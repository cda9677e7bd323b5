"""Stopping without losing anything: signals, other sources of a stop request, and where a run answers one.

Before there is a run, a signal raises `Interrupted` wherever it finds the main thread: `signals_raise()`. A run has a
`StopRequest`, which it answers where it can be captured in a checkpoint.
"""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vae_runner.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, and a terminal that is closed
# With these a scheduler announces that it will take the machine away; who requeues jobs handles one of them.
SCHEDULER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
SECONDS_BETWEEN_POLLS = 0.3

_raised: list[int] = []  # the signals that have raised Interrupted outside runs


def handled_signals() -> list[signal.Signals]:
    """Return the stop signals that this process handles: `nohup` has it ignore that the terminal is closed."""
    return [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def signals_raise() -> Iterator[None]:
    """Inside, a stop signal raises Interrupted where it finds the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _raised.clear()
    before = {number: signal.signal(number, _raise) for number in handled_signals()}
    hook_before, sys.unraisablehook = sys.unraisablehook, _without_interruptions
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        for number, handler in before.items():
            if signal.getsignal(number) == _raise:  # and no handler that is to stay until the process ends
                signal.signal(number, handler)


def ignore_signals() -> None:
    """Handle no more stop signals: the process is about to end."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_if_swallowed() -> None:
    """Raise it again, where something that swallows exceptions may have had it: the import of a library, say.

    Raises:
        Interrupted: there has been a stop signal.
    """
    if _raised:
        raise Interrupted(_raised[0])


def _without_interruptions(unraisable: Any) -> None:
    """Report what is raised where nothing takes it, in a `__del__`, but not a signal, which is answered later."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _raise(number: int, frame: FrameType | None) -> None:
    _raised.append(number)
    raise Interrupted(number)


class StopRequest:
    """A request that a run stops, whatever its source, and the places where it is answered by raising Interrupted.

    Its sources: a stop signal to this process; a scheduler's signal, if something handles it already, to which it is
    to be sent again afterwards; `poll`, which is asked every so often (for a sweep's stop file, say) and counts as
    SIGTERM; and inside `agreed()`, any other worker of the run.

    The first one is answered where it finds the main thread, but inside `shielded()` at the end of that, and inside
    `agreed()` nowhere but there. A second SIGINT is answered at once, wherever it comes; more SIGTERMs change nothing.
    """

    def __init__(self, poll: Callable[[], object] | None = None) -> None:
        self._poll = poll
        self._signal: int | None = None  # the first one
        self._is_shielded = False
        self._all_reduce_max: Callable[[float], float] | None = None

    @contextmanager
    def handlers_installed(self) -> Iterator[None]:
        """Inside, signals and `poll` are listened to; in a thread that cannot, signal handlers stay what they were."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        foreign = [number for number in SCHEDULER_SIGNALS if callable(signal.getsignal(number))]
        before = {number: signal.signal(number, self._handle) for number in (*handled_signals(), *foreign)}
        over = threading.Event()
        if self._poll is not None:
            threading.Thread(target=self._keep_polling, args=(self._poll, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal:  # It was raised where Python drops exceptions, in a `__del__`.
            raise Interrupted(self._signal, "interrupted when the run had finished")

    def reinstall_handlers(self) -> None:
        """Take SIGTERM back from TensorFlow, which takes it when it joins other workers."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def agreed(self, all_reduce_max: Callable[[float], float]) -> Iterator[None]:
        """Inside, all workers of a run answer a request at the end of the same `shielded()`, whichever has it.

        `all_reduce_max` is a collective that gives each the maximum of the numbers they give.
        """
        self._all_reduce_max = all_reduce_max
        try:
            yield
        finally:
            self._all_reduce_max = None

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Finish what is inside before a request is answered."""
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False
        self.check()

    def check(self) -> None:
        """Answer a request, if there is one: inside `agreed()` a collective, which all workers take part in.

        Raises:
            Interrupted: there is one.
        """
        requested = self._signal or 0
        if self._all_reduce_max is not None:  # One that comes while the workers agree is for the next check.
            requested = int(self._all_reduce_max(requested))
        if requested:
            self._signal = requested
            raise Interrupted(requested)

    def _keep_polling(self, poll: Callable[[], object], over: threading.Event) -> None:
        while not over.wait(SECONDS_BETWEEN_POLLS):
            if poll():
                _thread.interrupt_main(signal.SIGTERM)  # harmless should nothing handle signals any more
                return

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = number
            if not self._is_shielded and self._all_reduce_max is None:
                raise Interrupted(number)
        elif number == signal.SIGINT:
            raise Interrupted(number)
