"""Writing files whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_runner.errors import UnwritableError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails inside for want of room or permission is the user's to mend, and told of `path`."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"{path} cannot be written ({error.strerror or error})") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before, also if the machine stops at that moment.

    Raises:
        UnwritableError: there is no room, or no permission.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """See that names in a folder survive the machine, too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
