"""Writing files whole, or not at all."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vae_runner.errors import UnwritableError, printable

OUTPUTS = "outputs"  # where conf/config.yaml puts runs and sweeps, in folders of their dates
RUN_FILE = "run.json"  # with it, a folder is a run's
SWEEP_FILE = "sweep.json"  # with it, a folder is a sweep's
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


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
    """The content of a CSV file: a line for each of `rows`, of which there is at least one, and all have its keys.

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
    """See that names in a folder survive the machine, too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
