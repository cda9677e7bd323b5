"""Images in a file of raw bytes, read when asked for."""

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray


class StoredImages:
    """A file of uint8 images one after the other, indexed like the array `[n, height, width, channels]` it is.

    `[3]`, `[[5, 1, 8]]` and `[:8:2]` read images; `[2:8]` is a view, which reads nothing until `np.asarray`. The file
    is open as long as there is a view of it; several threads may read. Every page of a memory map, in contrast, that
    was ever read would count as this process's memory.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        file: Path,
        shape: tuple[int, ...],
        digests: NDArray[np.uint8] | None = None,
        first: int = 0,
        opened: FileIO | None = None,
    ) -> None:
        """Open `file`; `digests`, uint8 `[n, bytes]`, are of each image's content, where they are known."""
        self.file = file
        self.shape = shape
        self.digests = digests
        self._first = first
        self._image_bytes = int(np.prod(shape[1:]))
        self._opened = opened or FileIO(file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[np.int64]) -> "StoredImages | NDArray[np.uint8]":
        if isinstance(key, slice):
            chosen = range(len(self))[key]
            if chosen.step == 1:
                shape = (len(chosen), *self.shape[1:])
                digests = None if self.digests is None else self.digests[key]
                return StoredImages(self.file, shape, digests, self._first + chosen.start, self._opened)
            return self._read(np.array(chosen, np.int64))
        indices = np.arange(len(self))[key]  # NumPy's own rules, and its own refusals
        return self._read(indices) if indices.ndim else self._read(indices[np.newaxis])[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self._read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def _read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for image, index in zip(images, (self._first + indices).tolist(), strict=True):
            if os.preadv(self._opened.fileno(), [image.data], index * self._image_bytes) != self._image_bytes:
                raise OSError(f"{self.file} ends before image {index}")
        return images
