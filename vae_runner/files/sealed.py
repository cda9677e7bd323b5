"""JSON objects that carry a checksum of themselves: a change of any character is noticed.

It guards against damage, and not against someone who computes another checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from vae_runner.files.atomic import write_atomic
from vae_runner.files.untrusted import MAX_TEXT, DamagedError, JsonObject, json_object, read

CHECKSUM = "checksum"  # the key of it
ENCODER = json.JSONEncoder(sort_keys=True, check_circular=False)  # nothing that is sealed holds itself


def seal(content: Mapping[str, object], key: str = CHECKSUM) -> JsonObject:
    """Return an object with its checksum under `key`."""
    return {**content, key: _checksum(content)}


def unseal(sealed: Mapping[str, object], key: str = CHECKSUM) -> JsonObject:
    """Return a sealed object without its checksum; raise DamagedError if it is not as it was sealed."""
    content = {name: value for name, value in sealed.items() if name != key}
    if sealed.get(key) != _checksum(content):
        raise DamagedError("its content does not have the checksum in it")
    return content


def write_sealed(path: Path, content: Mapping[str, object]) -> None:
    """Write an object as a sealed JSON file, atomically; raise UnwritableError where that fails."""
    write_atomic(path, (json.dumps(seal(content), indent=2, allow_nan=False) + "\n").encode())


def read_sealed(path: Path) -> JsonObject:
    """Return the object of a sealed JSON file.

    Raises:
        DamagedError: there is no such file, or it is not as it was written.
        UnreadableError: it cannot be read.
    """
    return unseal(json_object(read(path, MAX_TEXT)))


def _checksum(content: Mapping[str, object]) -> str:
    return hashlib.sha256(ENCODER.encode(content).encode()).hexdigest()
