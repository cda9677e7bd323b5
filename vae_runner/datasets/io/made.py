"""Images that are made, or read and changed, when asked for."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

CHUNK_BYTES = 64 << 20  # of images that `np.asarray` makes at once

Make = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


class MadeImages:
    """Images that a function makes of numbers, indexed like the array `[n, height, width, channels]`.

    `[3]` and `[[5, 1, 8]]` make images; `[2:8]` is a view, which makes nothing until `np.asarray`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, make: Make, image_shape: tuple[int, int, int], numbers: NDArray[np.int64]) -> None:
        """Take `make`, a function from numbers `[n]` to the images of these, and the number of each image, `[n]`.

        Several threads may call it at a time.
        """
        self.shape = (len(numbers), *image_shape)
        self._make, self._numbers = make, numbers

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[np.int64]) -> "MadeImages | NDArray[np.uint8]":
        chosen = self._numbers[key]
        if isinstance(key, slice):
            return MadeImages(self._make, self.shape[1:], chosen)
        return self._make(chosen) if chosen.ndim else self._make(chosen[np.newaxis])[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        images = np.empty(self.shape, np.uint8)
        chunk = max(CHUNK_BYTES // math.prod(self.shape[1:]), 1)
        for first in range(0, len(images), chunk):
            images[first : first + chunk] = self._make(self._numbers[first : first + chunk])
        return images.astype(dtype or self.dtype, copy=False)
