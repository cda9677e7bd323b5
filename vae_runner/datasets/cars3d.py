"""Cars3D: 17,568 pictures of 183 cars, RGB (Reed and others, 2015, after Fidler and others, 2012)."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset
from vae_runner.datasets.io.download import MAX_HEADER, UNREADABLE_ARCHIVE, open_archive
from vae_runner.datasets.io.prepared_array import Source, prepare_array
from vae_runner.datasets.io.published import PublishedFile, find, warn_of_other_content
from vae_runner.datasets.io.resizing import smaller
from vae_runner.files.untrusted import DamagedError, reading

FILE = PublishedFile("nips2015-analogy-data.tar.gz", "4e866a7919c1beedf53964e6f7a23686", 1 << 31)
MEMBER = re.compile(r"(\./)?data/cars/car_\w+_mesh\.mat")
SIDE = 64  # pixels, of the 128 that they have
ELEVATIONS, AZIMUTHS = 4, 24
MAX_MEMBER = 1 << 26  # bytes of a car's file, and of its pictures


def load(
    *,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return the images `[64, 64, 3]`; cars are numbered in the order of the archive, and are the classes.

    Raises:
        UserError: the archive cannot be found, downloaded or read, or there is no room to prepare the images.
    """
    paths = find("cars3d", [FILE], root, data_dir, url)
    images, sizes = prepare_array("cars3d", paths, partial(_read, paths[0]), data_dir)

    def at(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        elevation, azimuth, car = np.unravel_index(places, tuple(sizes.values()))
        return np.asarray(images[(car * AZIMUTHS + azimuth) * ELEVATIONS + elevation])

    return grid_dataset(
        at, (SIDE, SIDE, 3), sizes, label="object",
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


@contextmanager
def _read(path: Path) -> Iterator[Source]:
    warn_of_other_content(FILE, path)
    cars = sum(1 for _ in _members(path, content=False))
    if cars == 0:
        raise DamagedError("there are no cars in it")
    sizes = {"elevation": ELEVATIONS, "azimuth": AZIMUTHS, "object": cars}
    yield Source((cars * AZIMUTHS * ELEVATIONS, SIDE, SIDE, 3), sizes, map(_pictures, _members(path, content=True)))


def _members(path: Path, *, content: bool) -> Iterator[bytes]:
    """Yield the file of each car in the archive, or nothing for each; read no other."""
    try:
        with open_archive(path) as (tar, stream):
            while member := tar.next():
                stream.allow(member.size + MAX_HEADER)
                tar.members = []  # type: ignore[attr-defined]  # It would collect them all.
                if member.isfile() and not member.issparse() and MEMBER.fullmatch(member.name):
                    file = tar.extractfile(member)
                    if file is None or member.size > MAX_MEMBER:
                        raise DamagedError(f"its {member.name} is too large")
                    yield file.read() if content else b""
    except (*UNREADABLE_ARCHIVE, OSError) as error:
        raise DamagedError(str(error)) from error


def _pictures(content: bytes) -> NDArray[np.uint8]:
    """Return a car's pictures in the order azimuth, elevation: uint8 `[96, 64, 64, 3]`."""
    with reading():
        found = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(content))}
        shape, kind = found.get("im", ((), ""))
        if kind != "uint8" or shape[2:] != (3, AZIMUTHS, ELEVATIONS) or np.prod(shape) > MAX_MEMBER:
            raise DamagedError(f"the pictures of a car are {kind or 'missing'} of shape {shape}")
        pictures = loadmat(io.BytesIO(content), variable_names=["im"])["im"]
    return smaller(pictures.transpose(3, 4, 0, 1, 2).reshape(-1, *shape[:3]), SIDE)
