"""MPI3D: 1,036,800 images of a robot's arm with an object, 64×64 RGB (Gondal and others, 2019; CC BY 4.0)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset
from vae_runner.datasets.io.npz import open_array
from vae_runner.datasets.io.prepared_array import Source, prepare_array
from vae_runner.datasets.io.published import PublishedFile, find, warn_of_other_content
from vae_runner.files.untrusted import DamagedError

MAX_BYTES = 20_000_000_000  # of a file
FILES = {
    "toy": PublishedFile("mpi3d_toy.npz", "55889cb7c7dfc655d6e0277beee88868", MAX_BYTES),
    "realistic": PublishedFile("mpi3d_realistic.npz", "59a6225b88b635365f70c91b3e52f70f", MAX_BYTES),
    "real": PublishedFile("mpi3d_real.npz", "0f33f609918fb5c97996692f91129802", MAX_BYTES),
}
FACTORS = ("colour", "shape", "size", "camera", "background", "axis_1", "axis_2")
SIZES = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))  # of what is published now, and of older files


def load(
    *,
    variant: str,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return the images `[height, width, 3]`; their shape is their class.

    They are unpacked once (12.7 GB), and read from there.

    Raises:
        UserError: the file cannot be found, downloaded or read, or there is no room to unpack it.
    """
    file = FILES[variant]
    paths = find("mpi3d", [file], root, data_dir, url)
    images, sizes = prepare_array("mpi3d", paths, partial(_read, file, paths[0]), data_dir)

    height, width, channels = images.shape[1:]
    return grid_dataset(
        lambda places: np.asarray(images[places]), (height, width, channels), sizes, label="shape",
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


@contextmanager
def _read(file: PublishedFile, path: Path) -> Iterator[Source]:
    warn_of_other_content(file, path)
    with open_array(path, "images") as images:
        if images.dtype != np.uint8 or len(images.shape) != 4:
            raise DamagedError(f"its images are {images.dtype} of shape {images.shape}")
        count, height, width, channels = images.shape
        sizes = next((sizes for sizes in SIZES if math.prod(sizes) == count), None)
        if sizes is None:
            raise DamagedError(f"it has {count} images, and MPI3D {' or '.join(str(math.prod(s)) for s in SIZES)}")
        blocks = cast("Iterator[NDArray[np.uint8]]", images.blocks())
        yield Source((count, height, width, channels), dict(zip(FACTORS, sizes, strict=True)), blocks)
