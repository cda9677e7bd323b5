"""SmallNORB: 48,600 photos of 50 toys, grey (LeCun, Huang and Bottou, 2004; for research, not to be sold)."""

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset, places_in_grid
from vae_runner.datasets.io.prepared_array import Source, prepare_array
from vae_runner.datasets.io.published import PublishedFile, find
from vae_runner.datasets.io.resizing import smaller
from vae_runner.errors import UserError
from vae_runner.files.untrusted import DamagedError, readable, reading

PARTS = ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing")
KINDS = ("dat", "cat", "info")  # images, categories, the other factors
FILES = [PublishedFile(f"smallnorb-{part}-{kind}.mat.gz", "", 1 << 28) for part in PARTS for kind in KINDS]
FACTORS = ("category", "instance", "elevation", "azimuth", "lighting")
CATEGORIES = ("animal", "human", "airplane", "truck", "car")
SIDE = 64  # pixels, of the 96 that they have
BLOCK = 256  # pairs of images that are read at once
MAX_IMAGES = 1_000_000

Header = tuple[tuple[int, ...], np.dtype[np.generic]]  # shape and type


def load(
    *,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return the left image of each pair, `[64, 64, 1]`; its category is its class.

    Raises:
        UserError: a file cannot be found, downloaded or read, or there is no room to prepare the images.
    """
    paths = find("smallnorb", FILES, root, data_dir, url)
    factors = np.concatenate([_factors(paths[1:3]), _factors(paths[4:6])])
    try:
        sizes, places = places_in_grid(factors, FACTORS)
    except DamagedError as error:
        raise UserError(f"{paths[2].parent} holds no SmallNORB ({error}): get its files again") from error
    images, _ = prepare_array("smallnorb", paths, partial(_read, [paths[0], paths[3]], sizes), data_dir)
    stored = np.argsort(places)
    return grid_dataset(
        lambda places: np.asarray(images[stored[places]]), (SIDE, SIDE, 1), sizes,
        label="category", label_names=CATEGORIES[: sizes["category"]],
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


def _factors(paths: list[Path]) -> NDArray[np.int64]:
    """Return the factors of the images of a part, `[n, 5]`."""
    columns = []
    for path, width in zip(paths, (1, 4), strict=True):
        try:
            with _opened(path) as (stream, (shape, dtype)):
                if shape[1:] not in ((), (width,)) or dtype != np.int32:
                    raise DamagedError(f"it holds {dtype} of shape {shape}")
                content = _exactly(stream, math.prod(shape) * dtype.itemsize)
        except DamagedError as error:
            raise UserError(f"{path} cannot be read ({error}): delete it and get it again") from error
        columns.append(np.frombuffer(content, dtype).reshape(-1, width).astype(np.int64))
    if len(columns[0]) != len(columns[1]):
        raise UserError(
            f"{paths[0]} is of {len(columns[0])} images, {paths[1]} of {len(columns[1])}: they do not belong together; "
            "get both again"
        )
    return np.concatenate(columns, axis=1)


@contextmanager
def _read(paths: list[Path], sizes: dict[str, int]) -> Iterator[Source]:
    count = math.prod(sizes.values())
    yield Source((count, SIDE, SIDE, 1), sizes, _blocks(paths, count))


def _blocks(paths: list[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    for path in paths:
        with _opened(path) as (stream, (shape, dtype)):
            if len(shape) != 4 or dtype != np.uint8 or shape[1] != 2 or min(shape[2:]) < SIDE or shape[0] > count:
                raise DamagedError(f"its images are {dtype} of shape {shape}")
            for first in range(0, shape[0], BLOCK):
                number = min(BLOCK, shape[0] - first)
                content = _exactly(stream, number * math.prod(shape[1:]))
                pairs = np.frombuffer(content, np.uint8).reshape(number, *shape[1:])
                yield smaller(pairs[:, 0, ..., np.newaxis], SIDE)
            with reading():
                if stream.read(1):  # gzip compares its checksum here.
                    raise DamagedError("it is longer than it says")
            count -= shape[0]
    if count:
        raise DamagedError(f"{count} images are missing in them")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[gzip.GzipFile, Header]]:
    """Open a file of NORB's own format: yield its content, and its shape and type, which come first."""
    with reading(), readable(path):
        stream = gzip.open(path)  # noqa: SIM115 (closed below: errors of whoever reads from it are not ours)
    with stream:
        magic, dimensions = struct.unpack("<Ii", _exactly(stream, 8))
        kind = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}.get(magic)
        if kind is None or not 1 <= dimensions <= 4:
            raise DamagedError("it does not begin as a file of SmallNORB does")
        shape = struct.unpack(f"<{max(dimensions, 3)}i", _exactly(stream, 4 * max(dimensions, 3)))[:dimensions]
        if min(shape) < 1 or shape[0] > MAX_IMAGES or max(shape[1:], default=1) > 1024:
            raise DamagedError(f"it says it holds numbers of shape {shape}")
        yield stream, (shape, np.dtype(kind))


def _exactly(stream: gzip.GzipFile, count: int) -> bytes:
    with reading():
        content = stream.read(count)
    if len(content) < count:
        raise DamagedError("it is cut off")
    return content
