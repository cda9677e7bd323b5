"""Ctrl-C, SIGTERM and a closed terminal: ending a run where nothing is lost."""

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vae_runner.errors import Interrupted
from vae_runner.runtime import signals

# With these a scheduler announces that it will take the machine away; who requeues jobs listens to one of them.
SCHEDULER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
SECONDS_BETWEEN_ASKING = 0.3


class Interruption:
    """Raises Interrupted where a first SIGINT, SIGTERM or SIGHUP finds the main thread, but never inside `deferred()`.

    After that a second SIGINT is answered at once, wherever it comes; more SIGTERMs change nothing. A scheduler's
    signal, if something listens to it already, is answered like SIGTERM: let it hear the signal afterwards. Where no
    signal can be sent to, `told` is asked: if it says so, that is answered like a SIGTERM.
    """

    def __init__(self, told: Callable[[], object] | None = None) -> None:
        self._told = told
        self._first: int | None = None
        self._deferring = False
        self._largest: Callable[[float], float] | None = None

    def hear_again(self) -> None:
        """Take SIGTERM back from TensorFlow, which takes it when it joins other machines."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._answer)

    @contextmanager
    def together(self, largest: Callable[[float], float]) -> Iterator[None]:
        """Inside, all machines of a run answer a first signal at the same `deferred()`, whichever has had it.

        `largest` is a collective that tells each the largest of the numbers they give.
        """
        self._largest = largest
        try:
            yield
        finally:
            self._largest = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Answer the signals inside; in a thread that cannot, they stay what they were."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [*signals.answered(), *(number for number in SCHEDULER_SIGNALS if callable(signal.getsignal(number)))]
        before = {number: signal.signal(number, self._answer) for number in numbers}
        over = threading.Event()
        if self._told is not None:
            threading.Thread(target=self._ask, args=(self._told, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._first:  # which was raised where Python drops exceptions, in a `__del__`
            raise Interrupted(self._first, "interrupted when the run had finished")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Finish what is inside before a first signal is answered."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        # One that comes while the machines agree is for the next time.
        first = self._first if self._largest is None else int(self._largest(self._first or 0))
        if first:
            self._first = first
            raise Interrupted(first)

    def _ask(self, told: Callable[[], object], over: threading.Event) -> None:
        while not over.wait(SECONDS_BETWEEN_ASKING):
            if told():
                _thread.interrupt_main(signal.SIGTERM)  # harmless should nothing answer signals any more
                return

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number
            if not self._deferring and self._largest is None:
                raise Interrupted(number)
        elif number == signal.SIGINT:
            raise Interrupted(number)
