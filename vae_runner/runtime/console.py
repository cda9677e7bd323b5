"""The terminal: one rich console that log messages and progress bars share, so that neither writes over the other."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from vae_runner.errors import printable
from vae_runner.runtime.streams import BestEffortStream

WARNINGS = "py.warnings"  # the name under which Python logs them
LIBRARIES = {WARNINGS.partition(".")[0], "absl", "keras", "matplotlib", "PIL", "tensorflow"}
LOG_ONLY = {"log_only": True}  # as a message's `extra`: for the run's log, because the command says it at its end

# Waits in a process of its own: for a line of the process that keeps messages aside, or for that one's end.
SHOW_LAST_WORDS = """
trap "" HUP INT TERM
read -r done && exit
echo "The process ended while TensorFlow was imported:"
tee -a "$0" <"/proc/self/fd/$1" 2>/dev/null
"""

console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 200  # of a file or a pipe, where rich would have 80


def plain(value: object) -> Text:
    """A value from a file as it is: nothing in it is rich's markup, or a terminal's command."""
    return Text(printable(str(value)))


@contextmanager
def native_messages_to_log(last_words: Path | None = None) -> Iterator[None]:
    """Keep what native code writes to the standard error from the terminal; with `hydra.verbose=true` it is logged.

    TensorFlow's C++ parts tell of missing CUDA libraries there, before any of its own settings for that apply. Should
    they end the process, by exit() or abort(), what they have said is shown, and added to the file `last_words`.
    """
    if sys.platform != "linux" or shutil.which("sh") is None:  # what could not be shown is not kept aside
        yield
        return
    sys.stderr.flush()
    kept = os.memfd_create("native messages")
    shows = ["sh", "-c", SHOW_LAST_WORDS, os.fspath(last_words or os.devnull), str(kept)]
    watcher = subprocess.Popen(shows, stdin=subprocess.PIPE, stdout=2, pass_fds=[kept])
    terminal = os.dup(2)
    os.dup2(kept, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        watcher.communicate(b"done\n")
        with os.fdopen(kept, "rb") as messages:
            messages.seek(0)
            for line in messages.read().decode(errors="replace").splitlines():
                logging.getLogger("tensorflow.native").debug(line)


def silence_native_messages() -> None:
    """Keep what native code writes to the standard error from the terminal until the process ends; Python's own comes.

    When another machine is lost, each of TensorFlow's threads says so there, at any time until the end.
    """
    sys.stderr.flush()
    sys.stderr = BestEffortStream(os.fdopen(os.dup(2), "w", buffering=1))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


class ConsoleHandler(logging.Handler):
    """Log messages, as they are, above a bar that may be running; libraries' warnings are for the run's log alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; warnings and errors in colour."""
        of_library = record.levelno == logging.WARNING and record.name.partition(".")[0] in LIBRARIES
        if of_library or getattr(record, "log_only", False):
            return
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else None
        console.print(printable(self.format(record)), style=style, markup=False, highlight=False, soft_wrap=True)


class LogFile(logging.FileHandler):
    """The run's log; what there is no room for is not in it, and no error."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message; a warning of Python's, which some code gives again and again, only once."""
        if record.name == WARNINGS:
            kind_and_text = record.getMessage().partition(": ")[2].partition("\n")[0]  # after the line of code it is of
            if kind_and_text in self._warnings:
                return
            self._warnings.add(kind_and_text)
        with suppress(OSError):  # when it is opened
            super().emit(record)

    def close(self) -> None:
        """Write what is left."""
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Of what goes wrong with a message, tell what is a fault of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class Bar:
    """A progress bar for work of a known number of `unit`, or an unknown one (None); silent without a terminal."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        amount = (
            [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
        )
        self._progress = Progress(
            TextColumn(title), BarColumn(), TaskProgressColumn(), *amount, TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, amount: int) -> None:
        """So much more is done."""
        self._progress.advance(self._task, amount)
