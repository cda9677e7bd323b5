"""dSprites: 737,280 images of a white shape on black, 64×64 (Matthey and others, DeepMind, 2017; Apache 2.0)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset, sizes_of_grid
from vae_runner.datasets.io.npz import open_array
from vae_runner.datasets.io.prepared_array import Source, prepare_array
from vae_runner.datasets.io.published import PublishedFile, find, warn_of_other_content
from vae_runner.files.untrusted import DamagedError

FILE = PublishedFile(
    "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", "7da33b31b13a06f4b04a70402ce90c2e", 1 << 28
)  # fmt: skip
FACTORS = ("colour", "shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")


def load(
    *,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return the images `[height, width, 1]`, black or white; their shape is their class.

    They are prepared once, a bit for each pixel (377 MB), and read from there.

    Raises:
        UserError: the file cannot be found, downloaded or read, or there is no room to prepare it.
    """
    paths = find("dsprites", [FILE], root, data_dir, url)
    packed, sizes = prepare_array("dsprites", paths, partial(_read, paths[0]), data_dir)
    height, row_bytes = packed.shape[1:3]

    def unpacked(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.unpackbits(np.asarray(packed[places]), axis=2) * np.uint8(255)

    return grid_dataset(
        unpacked, (height, 8 * row_bytes, 1), sizes, label="shape", label_names=SHAPES[: sizes["shape"]],
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


@contextmanager
def _read(path: Path) -> Iterator[Source]:
    """Open the file; `metadata`, which is a pickle, is left alone."""
    warn_of_other_content(FILE, path)
    with open_array(path, "latents_classes") as classes:
        sizes = sizes_of_grid(classes.whole(), FACTORS)
    with open_array(path, "imgs") as images:
        if images.dtype != np.uint8 or len(images.shape) != 3 or images.shape[2] % 8:
            raise DamagedError(f"its images are {images.dtype} of shape {images.shape}, not uint8 [n, height, width]")
        count, height, width = images.shape
        packed = (_packed(block) for block in images.blocks())
        yield Source((count, height, width // 8, 1), sizes, packed)


def _packed(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    if images.max() > 1:
        raise DamagedError("its pixels are not all 0 or 1")
    return np.packbits(images.astype(np.uint8, copy=False), axis=2)[..., np.newaxis]
