"""Reading files that someone else may have written: they are data, of a bounded size, or they are refused.

Nothing here runs or imports what a file names, and nothing takes much more memory than the file is large.
"""

import errno
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException

from vae_runner.errors import UnreadableError, first_line

MAX_TEXT = 4 << 20  # bytes of a JSON or YAML file
MAX_DEPTH = 50  # of objects and lists within each other
MAX_EXPANSION = 200  # of what is compressed: embeddings of a few thousand equal images come to 100
FREE_EXPANSION = 64 << 20  # bytes that anything may expand to
LARGE = 1e300  # beyond every number that is measured, infinity included
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, None)  # or something else is

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What readers raise on content that they were not made for: none of them promises less.
READERS_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
    EOFError, MemoryError, zipfile.BadZipFile, zlib.error, yaml.YAMLError, OmegaConfBaseException,
)  # fmt: skip
WORDED_ERRORS = (OSError, ValueError, zipfile.BadZipFile, zlib.error, yaml.YAMLError)  # of these, the words suffice

JsonObject = dict[str, Any]  # values of which nothing is known before they are checked
Arrays = dict[str, NDArray[Any]]  # by name, of any type


class DamagedError(Exception):
    """A file is not what was once written; the text says why."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


DECODER = json.JSONDecoder(parse_constant=_refuse)  # which takes longer to make than to read a small file with


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Make what fails inside for want of permission, or of a disk that works, an `UnreadableError` with its path.

    `path` is named where the error names none; that something is not there stays an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NOT_THERE:
            raise
        remedy = ": mend its permissions, or move it away" if isinstance(error, PermissionError) else ""
        raise UnreadableError(f"{error.filename or path} cannot be read ({error.strerror}){remedy}") from error


def is_file(path: Path) -> bool:
    """Return whether there is a file; raise UnreadableError where this user may not look."""
    with readable(path):
        return path.is_file()


@contextmanager
def reading() -> Iterator[None]:
    """Make what goes wrong inside with someone's file a `DamagedError`."""
    try:
        yield
    except READERS_ERRORS as error:
        reason = first_line(error)
        raise DamagedError(
            reason if isinstance(error, WORDED_ERRORS) else f"{type(error).__name__}: {reason}"
        ) from error


def read(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the content of a file; neither of a pipe, which never ends, nor of a larger file.

    Raises:
        DamagedError: there is no such file.
        UnreadableError: it cannot be read.
    """
    with reading(), readable(path), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:  # noqa: PTH123 (of a descriptor)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise OSError(f"its {status.st_size} bytes are more than {max_bytes}")
        return file.readall()


def json_object(content: bytes) -> JsonObject:
    """Return the object in a JSON file; raise DamagedError if it is none, or has numbers that are not finite."""
    with reading():
        found = DECODER.decode(content.decode(json.detect_encoding(content)))
    if not isinstance(found, dict):
        raise DamagedError("it holds no object")
    return found


def is_number(value: object) -> bool:
    """Return whether this is a number that one can reckon with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGE


def are_numbers(values: object) -> bool:
    """Return whether this is a dictionary of finite numbers."""
    return isinstance(values, dict) and all(map(is_number, values.values()))


def are_texts(values: object) -> bool:
    """Return whether this is a list of strings."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def check_yaml(content: bytes) -> None:
    """Raise DamagedError for YAML that is no mapping, grows when it is read, or is nested deeper than any of ours."""
    depth = 0
    with reading():
        for event in yaml.parse(content, Loader=YAML_LOADER):
            if depth == 0 and isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.MappingStartEvent):
                raise DamagedError("it is no configuration")
            if isinstance(event, yaml.AliasEvent):
                raise DamagedError("it has aliases, which a stored configuration has not")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise DamagedError(f"it is nested deeper than {MAX_DEPTH}")


def arrays(content: bytes) -> Arrays:
    """Return the arrays of a `.npz`; raise DamagedError if it holds pickles, or expands to far more than its size."""
    with reading():
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
            packed = sum(member.compress_size for member in archive.infolist())
        if expanded > max(FREE_EXPANSION, MAX_EXPANSION * packed):
            raise DamagedError(f"its {packed} bytes expand to {expanded}")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = dict(file)
    if not all(isinstance(value, np.ndarray) for value in found.values()):
        raise DamagedError("not all of it are arrays")
    return found
