"""Stopping without losing anything: signals, other sources of a stop request, and where a run answers one.

Before there is a run, a signal raises `Interrupted` wherever it finds the main thread: `signals_raise()`. A run has a
`StopRequest`, which it answers where it can be captured in a checkpoint.
"""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from vae_runner.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, and a terminal that is closed
# A scheduler sends these before it takes the machine away. Who requeues jobs (submitit) handles one of them.
SCHEDULER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
SECONDS_BETWEEN_POLLS = 0.3

_raised: list[int] = []  # the signals that have raised Interrupted outside runs


def handled_signals() -> list[signal.Signals]:
    """Return the stop signals that this process handles: under `nohup` it keeps ignoring SIGHUP."""
    return [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle these signals while inside; earlier handlers return at the end, where no others were installed since."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) == handler:
                signal.signal(number, earlier)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # Python lets no other set signal handlers.


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise Interrupted, while inside, where a stop signal finds the main thread."""
    if not _in_main_thread():
        yield
        return
    _raised.clear()
    hook_before, sys.unraisablehook = sys.unraisablehook, _report_unraisable
    try:
        with handling(handled_signals(), _raise):
            yield
    finally:
        sys.unraisablehook = hook_before


def ignore_signals() -> None:
    """Ignore stop signals from now on: the process is about to end."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_if_swallowed() -> None:
    """Raise Interrupted if a stop signal has come since `signals_raise`: an import may have swallowed the first."""
    if _raised:
        raise Interrupted(_raised[0])


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Report an exception that Python drops, in a `__del__`, but no Interrupted, which is raised again later."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _raise(number: int, frame: FrameType | None) -> None:
    _raised.append(number)
    raise Interrupted(number)


class StopRequest:
    """A request that a run stops, whatever its source, and the places where it is answered by raising Interrupted.

    Its sources are stop signals to this process; a scheduler's signal, where something handles it already, which gets
    it again after the checkpoint; `poll`, which looks for a sweep's stop file (true counts as SIGTERM); and inside
    `synchronized()` any other worker of the run.

    The first request is answered at once where it finds the main thread; inside `shielded()`, at the end of it; inside
    `synchronized()`, only at the end of a `shielded()` or in `check()`, by all workers together. A second SIGINT is
    answered at once everywhere; more SIGTERMs change nothing.
    """

    def __init__(self, poll: Callable[[], object] | None = None) -> None:
        self._poll = poll
        self._signal: int | None = None  # the first one
        self._is_shielded = False
        self._all_reduce_max: Callable[[float], float] | None = None

    @contextmanager
    def handlers_installed(self) -> Iterator[None]:
        """Take signals and call `poll` while inside; outside the main thread, do neither.

        Raises:
            Interrupted: at the end, a request whose exception Python has dropped, in a `__del__`.
        """
        if not _in_main_thread():
            yield
            return
        foreign = [number for number in SCHEDULER_SIGNALS if callable(signal.getsignal(number))]
        left = threading.Event()
        with handling((*handled_signals(), *foreign), self._handle):
            if self._poll is not None:
                threading.Thread(target=self._poll_until, args=(self._poll, left), daemon=True).start()
            try:
                yield
            finally:
                left.set()
        if self._signal:
            raise Interrupted(self._signal, "interrupted when the run had finished")

    def reinstall_handlers(self) -> None:
        """Take SIGTERM back from TensorFlow, which installs its own handler when it joins other workers."""
        if _in_main_thread():
            signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def synchronized(self, all_reduce_max: Callable[[float], float]) -> Iterator[None]:
        """Answer a request, while inside, on all workers of a run after the same `shielded()`, whichever has it.

        `all_reduce_max` is a collective: it returns to each worker the maximum of the numbers that they give.
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
        """Raise Interrupted if a stop is requested; inside `synchronized()`, a collective of all workers."""
        requested = self._signal or 0
        if self._all_reduce_max is not None:  # A request that comes meanwhile is for the next check.
            requested = int(self._all_reduce_max(requested))
        if requested:
            self._signal = requested
            raise Interrupted(requested)

    def _poll_until(self, poll: Callable[[], object], left: threading.Event) -> None:
        while not left.wait(SECONDS_BETWEEN_POLLS):
            if poll():
                _thread.interrupt_main(signal.SIGTERM)  # Without a handler of Python's for it this does nothing.
                return

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = number
            if not self._is_shielded and self._all_reduce_max is None:
                raise Interrupted(number)
        elif number == signal.SIGINT:
            raise Interrupted(number)
