"""What the user can mend, in one line, and what else ends a command."""

import copyreg
import difflib
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

YAML_WORDS = "In YAML, yes and on are true, no and off are false; quotes make them words."
DAMAGED = "the run directory is damaged; bring it back from a copy, or delete it and do the run again"


class Picklable(BaseException):
    """Errors that pickle makes again without `__init__`, which takes something else than the text: launchers do."""

    def __reduce__(self) -> tuple[object, ...]:
        """Return how: from the text, as BaseException has it, and the attributes."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class UserError(Picklable, Exception):
    """Something the user can mend; its text is one line: what is wrong, where, and what to do.

    The commands print it without a traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


class UnfitError(UserError):
    """Components, or keys of one, do not go together; others of the same sweep may."""


class UnwritableError(UserError):
    """A file cannot be written: no room, a limit, no permission. What was there before is as it was."""


class UnreadableError(UserError):
    """A file or folder cannot be read: no permission, a disk that fails. It need not be damaged."""


class UntrustedError(UserError):
    """A run directory names code of a module that is not trusted; `problem` says where."""

    def __init__(self, problem: str, module: str, advice: str) -> None:
        """Take as `advice` what is to be added to trust the module, with {} for its name."""
        super().__init__(f"{problem}: if you trust that code, add {advice.format(module)}")
        self.problem = problem
        self.module = module


class FormatError(UserError):
    """A run directory is of a format that this version does not read."""


class Interrupted(Picklable, KeyboardInterrupt):
    """A signal asked the command to end. Its text, if any, is the resume hint; `status` is the exit status."""

    def __init__(self, signal_number: int, advice: str = "") -> None:
        super().__init__(advice)
        self.signal_number = signal_number
        self.status = 128 + signal_number  # as shells have it: 130 for SIGINT, 143 for SIGTERM


class Pruned(KeyboardInterrupt):
    """A search gives a run up, which ends in a checkpoint as one that is interrupted does; its text says why."""


@contextmanager
def permissions_explained() -> Iterator[None]:
    """Raise a UserError for a file that what is inside has come across, and may not use."""
    try:
        yield
    except PermissionError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename} cannot be read or written ({error.strerror}): give another place") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status of a command which ends because of it."""
    return (interrupt if isinstance(interrupt, Interrupted) else Interrupted(signal.SIGINT)).status


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey, or could not show, written out: a file name may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def check_name(text: str) -> None:
    """Refuse a name that is not UTF-8: no text file can hold it, neither a configuration nor a table."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{text}: this name is not UTF-8: rename it, or give another") from error


def counted(number: int, thing: str) -> str:
    """Return `1 image`, `2 images`, `10,000 classes`."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'latent'?"` for the known word closest to `word`, or `""` where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
