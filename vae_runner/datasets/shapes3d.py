"""3D Shapes: 480,000 images of a thing in a room, 64×64 RGB (Burgess and Kim, DeepMind, 2018; Apache 2.0)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset, sizes_of_grid
from vae_runner.datasets.io.prepared_array import Source, prepare_array
from vae_runner.datasets.io.published import PublishedFile, find, warn_of_other_content
from vae_runner.files.untrusted import DamagedError, readable, reading

FILE = PublishedFile(
    "3dshapes.h5", "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785", 1 << 29
)  # fmt: skip
FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
BLOCK = 1024  # images that are read at once
MAX_IMAGES = 10_000_000


def load(
    *,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return the images `[height, width, 3]`; their shape is their class.

    They are unpacked once (5.9 GB), and read from there.

    Raises:
        UserError: the file cannot be found, downloaded or read, or there is no room to unpack it.
    """
    paths = find("shapes3d", [FILE], root, data_dir, url)
    images, sizes = prepare_array("shapes3d", paths, partial(_read, paths[0]), data_dir)

    height, width, channels = images.shape[1:]
    return grid_dataset(
        lambda places: np.asarray(images[places]), (height, width, channels), sizes, label="shape",
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


@contextmanager
def _read(path: Path) -> Iterator[Source]:
    warn_of_other_content(FILE, path)
    with reading(), readable(path):
        file = h5py.File(path, "r")
    with file:
        with reading():
            images, labels = _own(file, "images"), _own(file, "labels")
            if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.float64 or len(labels) > MAX_IMAGES:
                raise DamagedError("its images and labels are of another kind than 3D Shapes'")
            sizes = sizes_of_grid(labels[:], FACTORS)
        yield Source(images.shape, sizes, _blocks(images))


def _own(file: h5py.File, name: str) -> h5py.Dataset:
    """Return an array that lies in the file itself: HDF5 may point to any other."""
    found = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise DamagedError(f"there is no array {name} in it")
    return found


def _blocks(images: h5py.Dataset) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(images), BLOCK):
        with reading():
            block = images[first : first + BLOCK]
        yield cast("NDArray[np.uint8]", block)
