"""What a command says may be lost, with the terminal or the pipe that it goes to; its work is not."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # nobody reads any more: `| head` has seen enough, the terminal is closed


class BestEffortStream:
    """A text stream that goes silent when nothing can be written to it any more, and is the one beneath otherwise."""

    def __init__(self, stream: Any) -> None:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for terminals that have no × or µ
        self._stream = stream
        self.problem: OSError | None = None  # why it has gone silent, unless nobody reads any more

    def write(self, text: str) -> int:
        """All of `text` is taken."""
        with self._silent_after_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Drop what cannot be written."""
        with self._silent_after_errors():
            self._stream.flush()

    def close(self) -> None:
        """Leave the one beneath to whoever opened it: a logging handler of a library's may keep this one for longer."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _silent_after_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:
                self.problem = error
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            with suppress(OSError):
                self._stream.flush()  # what it still keeps, so that Python does not try that again at its end


@contextmanager
def best_effort_output() -> Iterator[None]:
    """Inside, no failure to write to the standard output or error is one of the work."""
    if isinstance(sys.stdout, BestEffortStream):
        yield
        return
    before = sys.stdout, sys.stderr
    _open_closed_ones()
    ours = BestEffortStream(sys.stdout), BestEffortStream(sys.stderr)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        for stream in ours:
            stream.flush()
        if sys.stdout is ours[0]:
            sys.stdout = before[0]
        if sys.stderr is ours[1]:  # and not one that was put there since, for the end of the process
            sys.stderr = before[1]


def _open_closed_ones() -> None:
    """Let no file of ours become the standard output or error: native code would write its messages into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
