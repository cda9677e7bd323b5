"""Writing files whole, or not at all."""

import csv
import errno
import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vae_runner.errors import UnreadableError, UnwritableError, UserError, printable

OUTPUTS = "outputs"  # where conf/config.yaml puts runs and sweeps, in folders of their dates
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, None)  # or something else is
LOG = "vae-run.log"  # where conf/hydra/job_logging puts it
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
RUN_FILE = "run.json"  # with it, a folder is a run's
SWEEP_FILE = "sweep.json"  # with it, a folder is a sweep's
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make what fails inside for want of room or permission a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written ({error.strerror or error})") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Make what fails inside for want of permission, or of a disk that works, a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_THERE:
            raise
        mend = ": mend its permissions, or move it away" if isinstance(error, PermissionError) else ""
        raise UnreadableError(f"{error.filename or path} cannot be read ({error.strerror}){mend}") from error


def is_file(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        UnreadableError: one may not know.
    """
    with readable(path):
        return path.is_file()


def check_own(folder: Path, what: str, names: Sequence[str], marks: Sequence[str]) -> None:
    """Refuse a folder with something in it that is not of `what`, a run or a sweep: some of it could be written over.

    `names` are patterns of all that lies in its folder, and `marks` of what only it leaves there. The log is added to,
    and hidden files of other names are nobody's work.

    Raises:
        UserError: there is such a thing, or the folder cannot be read.
    """

    def is_own(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in names)

    with readable(folder):
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        marked = any(any(folder.glob(mark)) for mark in marks)
    others = [name for name in found if not (is_own(name) if marked else name == LOG)]
    for name in others:
        if is_own(name) or not name.startswith("."):
            raise UserError(f"{folder} holds {name}, which is not {what}'s: give {what} a folder of its own")


def make_next_folder(path: Path) -> Path:
    """Make the folder `path`, or where there is one already, that with -2, -3, … at its end.

    Raises:
        OSError: it cannot be made.
    """
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before, also if the machine stops at that moment.

    Raises:
        UnwritableError: there is no room, or no permission.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.unlink(missing_ok=True)
            with part.open("xb") as file:  # anew: what is there may be a link to elsewhere
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def remove_empty(path: Path) -> None:
    """Remove a run's or a sweep's own folder, and those conf/config.yaml puts it in, unless something is in them."""
    with suppress(OSError):  # rmdir refuses a folder that something is in
        path.rmdir()
        for folder, name in zip(path.parents, (r"\d{4}-\d\d-\d\d", OUTPUTS), strict=False):
            if not re.fullmatch(name, folder.name):
                break
            folder.rmdir()


def csv_table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of a CSV file: a line for each of `rows`, of which there is at least one; all have its keys.

    Texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for row in (list(rows[0]), *(list(row.values()) for row in rows)):
        writer.writerow([_no_formula(value) for value in row])
    return buffer.getvalue().encode()


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(FORMULA_STARTS) else printable(value)


def _sync_folder(path: Path) -> None:
    """See that names in a folder survive the machine, too, where the file system can do that."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(folder)
