"""Reading files that someone else may have written: they are data, of a bounded size, or they are refused.

Nothing here runs or imports what a file names, and nothing takes much more memory than the file is large.
"""

import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from omegaconf.errors import OmegaConfBaseException

from vae_runner.errors import first_line
from vae_runner.files.folders import readable

MAX_TEXT = 4 << 20  # bytes of a JSON or YAML file
MAX_DEPTH = 50  # of objects and lists within each other
MAX_EXPANSION = 200  # of what is compressed: embeddings of a few thousand equal images come to 100
CHECKSUM = "checksum"
LARGE = 1e300  # beyond every number that is measured, infinity included
FREE_EXPANSION = 64 << 20  # bytes that anything may expand to

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What readers raise on content that they were not made for: none of them promises less.
READERS_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
    EOFError, MemoryError, zipfile.BadZipFile, zlib.error, yaml.YAMLError, OmegaConfBaseException,
)  # fmt: skip
WORDED_ERRORS = (OSError, ValueError, zipfile.BadZipFile, zlib.error, yaml.YAMLError)  # of these, the words suffice


class DamagedError(Exception):
    """A file is not what was once written; the text says why."""


@contextmanager
def reading() -> Iterator[None]:
    """Make what goes wrong inside with someone's file a `DamagedError`."""
    try:
        yield
    except READERS_ERRORS as error:
        told = first_line(error)
        raise DamagedError(told if isinstance(error, WORDED_ERRORS) else f"{type(error).__name__}: {told}") from error


def read(path: Path, most: int | None = None) -> bytes:
    """Return the content of a file; neither of a pipe, which never ends, nor of more than `most` bytes.

    Raises:
        DamagedError: there is no such file.
        UnreadableError: it cannot be read.
    """
    with reading(), readable(path), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 (of a descriptor)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no file")
        if most is not None and status.st_size > most:
            raise OSError(f"its {status.st_size} bytes are more than {most}")
        return file.read()


def json_object(content: bytes) -> dict[str, Any]:
    """Return the object that a JSON file holds, with finite numbers only.

    Raises:
        DamagedError: it holds anything else.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    with reading():
        found = json.loads(content, parse_constant=refuse)
    if not isinstance(found, dict):
        raise DamagedError("it holds no object")
    return found


def sealed(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with a checksum of itself, which `unsealed` asks for."""
    return {**info, CHECKSUM: _checksum(info)}


def unsealed(info: Mapping[str, Any], needs_one: str) -> dict[str, Any]:
    """Return a sealed object without its checksum; it may have none unless it has the key `needs_one`.

    Raises:
        DamagedError: it is not the object that was sealed.
    """
    content = {name: value for name, value in info.items() if name != CHECKSUM}
    if (CHECKSUM in info or needs_one in info) and info.get(CHECKSUM) != _checksum(content):
        raise DamagedError("its content does not have the checksum in it")
    return content


def _checksum(info: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()


def are_numbers(values: Any) -> bool:
    """Whether this is a dictionary of finite numbers."""
    return isinstance(values, dict) and all(map(is_number, values.values()))


def are_texts(values: Any) -> bool:
    """Whether this is a list of strings."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def is_number(value: Any) -> bool:
    """Whether this is a number that one can reckon with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGE


def check_yaml(content: bytes) -> None:
    """Refuse YAML that is no mapping, that grows when it is read, or that is nested deeper than anything of ours.

    Raises:
        DamagedError: it does.
    """
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


def arrays(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of a `.npz`; nothing in it is a pickle.

    Raises:
        DamagedError: it is none, or would take far more memory than it is large.
    """
    check_zip(io.BytesIO(content))
    with reading(), np.load(io.BytesIO(content), allow_pickle=False) as file:
        found = dict(file)
    if not all(isinstance(value, np.ndarray) for value in found.values()):
        raise DamagedError("not all of it are arrays")
    return found


def check_zip(file: Path | IO[bytes]) -> None:
    """Refuse a zip archive that would grow out of all proportion.

    Raises:
        DamagedError: it would, or is no archive.
    """
    with reading(), zipfile.ZipFile(file) as archive:
        whole = sum(member.file_size for member in archive.infolist())
        packed = sum(member.compress_size for member in archive.infolist())
    if whole > max(FREE_EXPANSION, MAX_EXPANSION * packed):
        raise DamagedError(f"its {packed} bytes expand to {whole}")
