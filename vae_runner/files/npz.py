"""Arrays as the content of a file."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike


def npz(arrays: Mapping[str, ArrayLike], *, compressed: bool = False) -> bytes:
    """Return the content of an .npz with arrays, by name, none of which holds objects.

    `allow_pickle=False` is not given, which would refuse objects: NumPy before 2.2 takes it for one more array.
    """
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
