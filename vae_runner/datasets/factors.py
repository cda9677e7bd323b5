"""Datasets of a grid of factors: an image for each combination of their values."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset, Split, fixed_order, log_limit, split_sizes
from vae_runner.datasets.io.made import MadeImages, Make


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
    the dataset's factors. With `label` that factor's values are the classes, called `label_names`. Splits are in a
    random order, and the same in every run; `limit` cuts them, and leaves the grid whole.
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
        label_names,
        factor_names=list(varying),
        factor_sizes=list(varying.values()),
        grid=split(every),
    )
