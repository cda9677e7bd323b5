"""Datasets of a grid of factors: an image for each combination of their values."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset, Split, fixed_order, log_limit, split_sizes
from vae_runner.datasets.io.made import MadeImages, Make
from vae_runner.files.untrusted import DamagedError


def grid_dataset(
    make: Make,
    image_shape: tuple[int, int, int],
    sizes: Mapping[str, int],
    *,
    label: str | None = None,
    label_names: Sequence[str] = (),
    limit: int | None,
    test_fraction: float,
    validation_fraction: float,
) -> Dataset:
    """Return a dataset of images that `make` makes of their places in the grid, split at random.

    `sizes` is how many values each factor has, by name, the last of them fastest. What has one value only is none of
    the dataset's factors. With `label` that factor's values are the classes, called `label_names`, or by their number.
    Splits are in a random order, and the same in every run; `limit` cuts them, and leaves the grid whole.
    """
    varying = {name: size for name, size in sizes.items() if size > 1}
    every = np.arange(np.prod(list(varying.values()), dtype=np.int64))
    order = fixed_order(len(every))
    _, test = split_sizes(len(order), test_fraction, "test_fraction")
    _, validation = split_sizes(len(order) - test, validation_fraction, "validation_fraction")
    places = {
        "test": order[:test],
        "validation": order[test : test + validation],
        "training": order[test + validation :],
    }
    log_limit(limit, {name: len(places[name]) for name in ("training", "validation", "test")})

    def split(chosen: NDArray[np.int64]) -> Split:
        values = dict(zip(sizes, np.unravel_index(chosen, tuple(sizes.values())), strict=True))
        factors = np.stack([values[name] for name in varying], axis=1)
        return Split(MadeImages(make, image_shape, chosen), values[label] if label else None, factors)

    return Dataset(
        split(places["training"][:limit]),
        split(places["test"][:limit]),
        split(places["validation"][:limit]) if validation else None,
        label_names or [str(value) for value in range(sizes[label] if label else 0)],
        factor_names=list(varying),
        factor_sizes=list(varying.values()),
        grid=split(every),
    )


def sizes_of_grid(values: NDArray[np.generic], names: Sequence[str]) -> dict[str, int]:
    """Return how many values each factor has, of images `[n, factors]` that are a grid of them, in its order.

    Raises:
        DamagedError: they are none, or not in its order, the last factor fastest and values growing.
    """
    sizes, places = places_in_grid(values, names)
    if (places != np.arange(len(places))).any():
        raise DamagedError(f"its images are not in the order of the factors {', '.join(names)}")
    return sizes


def places_in_grid(values: NDArray[np.generic], names: Sequence[str]) -> tuple[dict[str, int], NDArray[np.int64]]:
    """Return how many values each factor has, and the place in the grid of each of the images `[n, factors]`.

    Raises:
        DamagedError: not every combination of values is there once.
    """
    if values.ndim != 2 or values.shape[1] != len(names) or len(values) == 0:
        raise DamagedError(f"its factors are of shape {values.shape}, and not [n, {len(names)}]")
    found, indices = zip(*(np.unique(column, return_inverse=True) for column in values.T), strict=True)
    sizes = [len(of_factor) for of_factor in found]
    places = np.asarray(np.ravel_multi_index(indices, sizes), np.int64)
    if len(values) != math.prod(sizes) or len(np.unique(places)) < len(values):
        raise DamagedError(f"its images are not a grid of the factors {', '.join(names)}")
    return dict(zip(names, sizes, strict=True)), places
