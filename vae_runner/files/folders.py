"""Folders: which are ours, and names for new ones."""

import itertools
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from vae_runner.errors import UserError
from vae_runner.files.untrusted import readable

OUTPUTS = "outputs"  # where conf/config.yaml puts runs and sweeps, in folders of their dates
LOG = "vae-run.log"  # where conf/hydra/job_logging puts it
RUN_FILE = "run.json"  # with it, a folder is a run's
SWEEP_FILE = "sweep.json"  # with it, a folder is a sweep's


def with_home(name: str, path: str | Path) -> Path:
    """Return a path with the home in place of `~`; refuse, as what `name` gives, one of a user who has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name}={path}: there is no home that ~ could stand for: give the whole path") from error


def fits_any(name: str, patterns: Iterable[str]) -> bool:
    """Return whether the name of a file fits one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def check_own(folder: Path, what: str, names: Sequence[str], marks: Sequence[str]) -> None:
    """Refuse a folder with something in it that is not of `what`, a run or a sweep: some of it could be written over.

    `names` are patterns of all that lies in its folder, and `marks` of what only it leaves there. The log is added to,
    and hidden files of other names are nobody's work.
    """
    with readable(folder):
        found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        marked = any(any(folder.glob(mark)) for mark in marks)
    for name in found:
        is_own = fits_any(name, names)
        accepted = is_own if marked else name == LOG
        if not accepted and (is_own or not name.startswith(".")):
            raise UserError(f"{folder} holds {name}, which is not {what}'s: give {what} a folder of its own")


def make_next_folder(path: Path) -> Path:
    """Make the folder `path`, or where it is there, that with -2, -3, … at its end; return it, or raise OSError."""
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def remove_empty(path: Path) -> None:
    """Remove a run's or a sweep's own folder, and those conf/config.yaml puts it in, unless something is in them."""
    with suppress(OSError):  # rmdir refuses a folder that something is in
        path.rmdir()
        for folder, name in zip(path.parents, (r"\d{4}-\d\d-\d\d", OUTPUTS), strict=False):
            if not re.fullmatch(name, folder.name):
                break
            folder.rmdir()
