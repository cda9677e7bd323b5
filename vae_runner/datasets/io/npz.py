"""Arrays of an `.npz` that are too large for memory, read piece by piece and without unpickling anything."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runner.files.untrusted import DamagedError, readable, reading

BLOCK_BYTES = 16 << 20
MAX_IN_MEMORY = 1 << 28  # bytes of an array that is read as a whole


class StreamedArray(NamedTuple):
    """An array of an open `.npz`: its shape and type, and its content from the beginning."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stream: IO[bytes]

    def blocks(self) -> Iterator[NDArray[np.generic]]:
        """Yield pieces of it, in order; raise DamagedError where it is longer or shorter than it says, or damaged."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(BLOCK_BYTES // max(row, 1), 1)
        for first in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - first)
            with reading():
                content = self.stream.read(count * row)  # zipfile compares its checksum at the end.
            if len(content) < count * row:
                raise DamagedError("it ends before its last image")
            yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        with reading():
            if self.stream.read(1):
                raise DamagedError("it is longer than it says")

    def whole(self) -> NDArray[np.generic]:
        """Return all of it."""
        if math.prod(self.shape) * self.dtype.itemsize > MAX_IN_MEMORY:
            raise DamagedError(f"an array of it has more than {MAX_IN_MEMORY:,} bytes")
        return np.concatenate(list(self.blocks()))


@contextmanager
def open_array(path: Path, key: str) -> Iterator[StreamedArray]:
    """Open the array `key` of an `.npz`; raise DamagedError if there is none of plain numbers in it."""
    with reading(), readable(path):
        archive = zipfile.ZipFile(path)
    with archive:
        with reading():
            if f"{key}.npy" not in archive.namelist():
                raise DamagedError(f"there is no array {key} in it")
            stream = archive.open(f"{key}.npy")
        with stream:
            with reading():
                version = np.lib.format.read_magic(stream)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
                }[version]  # fmt: skip
                shape, fortran_order, dtype = read_header(stream)
            if dtype.hasobject or dtype.kind not in "uif" or fortran_order or not shape:
                raise DamagedError(f"its {key} is no plain array of numbers")
            yield StreamedArray(shape, dtype, stream)
