"""How much time a run spends on what."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """A sum of seconds for each activity of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def since_start(self, what: str) -> None:
        """Add all the time since the stopwatch was made."""
        self._add(what, time.perf_counter() - self._start)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Add the time of what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(what, time.perf_counter() - start)

    def _add(self, what: str, seconds: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds
