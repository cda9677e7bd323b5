"""Atomic writes: a file is there with all of its content, or as it was before, also if the machine stops."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_runner.errors import UnwritableError, UserError

UNFINISHED = ".part-*"  # what a process that was killed while it wrote leaves beside its file
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make what fails inside for want of room or permission an `UnwritableError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written ({error.strerror or error})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new file's name in the same folder; it replaces `path` at the end, or UnwritableError is raised."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.unlink(missing_ok=True)  # What is there may be a link to elsewhere.
            yield part
            _sync(part)
            part.replace(path)
            _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, which becomes `path` at the end: nothing may be there, or an empty folder.

    Raises:
        UnwritableError: it cannot be written.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    with writing(path):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            part.rename(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file, or make it, and its folder where there is none; raise UnwritableError where that fails."""
    with replacing(path) as part:
        part.write_bytes(content)


def check_writable(out: Path) -> str:
    """Refuse, before any work, a `--out` that is a folder, or in one that does not exist or cannot be written.

    Return what is to be said of a file that is there already, which it will replace.
    """
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        what = "it is a folder" if out.is_dir() else f"{out.parent} cannot be written"
        raise UserError(f"--out {out}: {what}; give another name")
    return ", in place of what was there" if out.exists() else ""


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder where the file system can do that, if the machine stops."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_SYNC):
            raise
    finally:
        os.close(descriptor)
