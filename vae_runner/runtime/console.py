"""The terminal: one rich console that log messages and progress bars share, so that neither writes over the other."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from rich import progress
from rich.console import Console
from rich.text import Text

from vae_runner.errors import printable
from vae_runner.runtime.streams import BestEffortStream

WARNINGS = "py.warnings"  # the logger of Python's warnings
LIBRARIES = {WARNINGS.partition(".")[0], "absl", "keras", "matplotlib", "PIL", "tensorflow"}
LOG_ONLY = {"log_only": True}  # a message's `extra`: the console leaves it out, because the command prints it last

# A shell script that outlives the process it watches. A line on its standard input means that the import is over; end
# of file, that the process has ended: then it prints the output diverted so far (descriptor $1), also to the file $0.
PRINT_CRASH_OUTPUT = """
trap "" HUP INT TERM
read -r done && exit
echo "The process ended while TensorFlow was imported:"
tee -a "$0" <"/proc/self/fd/$1" 2>/dev/null
"""

console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 200  # for a file or a pipe, where rich would take 80


def plain(value: object) -> Text:
    """Return a value from a file as text in which nothing is rich's markup or a terminal's escape sequence."""
    return Text(printable(str(value)))


@contextmanager
def native_stderr_to_log(crash_file: Path | None = None) -> Iterator[None]:
    """Divert what is written to descriptor 2 while inside into the log, at level DEBUG.

    TensorFlow's C++ code reports missing CUDA libraries there before any setting of its own can silence it. Where that
    code ends the process, by exit() or abort(), its output so far is printed after all, and appended to `crash_file`.
    """
    if sys.platform != "linux" or shutil.which("sh") is None:  # A crash could not be explained.
        yield
        return
    sys.stderr.flush()
    diverted = os.memfd_create("native stderr")
    command = ["sh", "-c", PRINT_CRASH_OUTPUT, os.fspath(crash_file or os.devnull), str(diverted)]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, pass_fds=[diverted])
    terminal = os.dup(2)
    os.dup2(diverted, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        watcher.communicate(b"done\n")
        with os.fdopen(diverted, "rb") as output:
            output.seek(0)
            for line in output.read().decode(errors="replace").splitlines():
                logging.getLogger("tensorflow.native").debug(line)


def silence_native_stderr() -> None:
    """Drop what native code writes to descriptor 2 until the process ends; `sys.stderr` keeps writing to the terminal.

    When another machine is lost, each of TensorFlow's threads writes so there, at any time until the end.
    """
    sys.stderr.flush()
    sys.stderr = BestEffortStream(os.fdopen(os.dup(2), "w", buffering=1))
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)


class ConsoleHandler(logging.Handler):
    """Prints log messages above a progress bar that may be running, but no warnings of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; warnings and errors in colour."""
        of_library = record.levelno == logging.WARNING and record.name.partition(".")[0] in LIBRARIES
        if of_library or getattr(record, "log_only", False):
            return
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else None
        console.print(printable(self.format(record)), style=style, markup=False, highlight=False, soft_wrap=True)


class LogFile(logging.FileHandler):
    """A run's log file; a message that cannot be written is dropped, and each of Python's warnings is written once."""

    def __init__(self, filename: str, encoding: str = "utf-8", delay: bool = True) -> None:
        super().__init__(filename, encoding=encoding, delay=delay)
        self._warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message, unless it repeats a warning of Python's."""
        if record.name == WARNINGS:
            category_and_text = record.getMessage().partition(": ")[2].partition("\n")[0]  # after file and line
            if category_and_text in self._warnings:
                return
            self._warnings.add(category_and_text)
        with suppress(OSError):  # The file is opened here.
            super().emit(record)

    def close(self) -> None:
        """Flush and close the file, as far as it can be written."""
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Report what goes wrong with a message, unless the file cannot be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def progress_bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while inside, on a terminal; yield what moves it by a number of `unit`.

    `total` is None where it is unknown. The unit "bytes" shows sizes and the speed.
    """
    amount = [progress.MofNCompleteColumn(), progress.TextColumn(unit)]
    if unit == "bytes":
        amount = [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    columns = (progress.TextColumn(title), progress.BarColumn(), progress.TaskProgressColumn(), *amount)
    hidden = not console.is_terminal
    with progress.Progress(
        *columns, progress.TimeRemainingColumn(), console=console, disable=hidden, transient=True
    ) as bar:
        yield partial(bar.advance, bar.add_task(title, total=total))
