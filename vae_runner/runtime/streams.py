"""Standard output and error that no work depends on: what cannot be written is dropped."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

NO_READER = (errno.EPIPE, errno.EIO)  # `| head` has seen enough, the terminal is closed


class BestEffortStream:
    """A text stream that drops its text from the first failed write on, and is the stream beneath otherwise."""

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals that have no × or µ
        self._stream = stream
        self.problem: OSError | None = None  # why writing failed, unless for want of a reader

    def write(self, text: str) -> int:
        """Write `text`, or drop it; return its length."""
        with self._dropping_after_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what cannot be written."""
        with self._dropping_after_errors():
            self._stream.flush()

    def close(self) -> None:
        """Flush, and leave the stream beneath open: a library's logging handler may still hold this one."""
        self.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    @contextmanager
    def _dropping_after_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in NO_READER:
                self.problem = error
            with Path(os.devnull).open("w") as null:
                os.dup2(null.fileno(), self._stream.fileno())
            with suppress(OSError):
                self._stream.flush()  # Else Python would try at its end to write what is still buffered.


@contextmanager
def best_effort_output() -> Iterator[None]:
    """Make standard output and error best-effort streams while inside, and flush both at the end."""
    if isinstance(sys.stdout, BestEffortStream):
        yield
        return
    before = sys.stdout, sys.stderr
    _open_closed_descriptors()
    ours = BestEffortStream(sys.stdout), BestEffortStream(sys.stderr)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        for stream in ours:
            stream.flush()
        if sys.stdout is ours[0]:
            sys.stdout = before[0]
        if sys.stderr is ours[1]:  # One that was put there since stays until the process ends.
            sys.stderr = before[1]


def _open_closed_descriptors() -> None:
    """Open descriptors 0 to 2 where they are closed: else native code would write into files that we open."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
