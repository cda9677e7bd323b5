"""Codes of images beside the factors of variation that made the images: what the metrics of disentanglement share.

Codes are floats `[n, latent]`, one row for an image: posterior means, or samples. Factors are integers `[n, factors]`:
the value of each factor in each image. Nothing here needs all combinations of values to exist: an image "with the
same shape" is looked up among the rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError, counted

Codes = NDArray[np.floating]
Factors = NDArray[np.integer]

CONSTANT = 1e-12  # a dimension of no more variance than this differs by rounding only
FEWEST_IMAGES = 10  # below, no score means anything


def checked(
    codes: Codes, factors: Factors, *, dimensions: int = 1, factor_count: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return codes as float64 and factors as int64, of which a metric needs so many dimensions and factors at least.

    Raises:
        UserError: for arrays of which no score can be computed.
    """
    codes = checked_codes(codes, dimensions)
    if not varying(codes).any():
        raise UserError("all images have the same code: the latent space has collapsed, and there is nothing to score")
    factors = np.asarray(factors)
    if factors.ndim != 2 or len(factors) != len(codes):
        raise UserError(f"factors are of shape {factors.shape}: {len(codes):,} codes need ({len(codes)}, factors)")
    if not np.issubdtype(factors.dtype, np.integer):
        raise UserError(f"factors are {factors.dtype}: number the values of each factor, and give the numbers")
    if factors.shape[1] < factor_count:
        raise UserError(
            f"the data has {counted(factors.shape[1], 'factor')} and this score compares factors: "
            f"it needs {factor_count} at least"
        )
    check_varied(factors)
    return codes, factors.astype(np.int64)


def checked_codes(codes: Codes, dimensions: int = 1) -> NDArray[np.float64]:
    """Return codes `[n, latent]` as float64, if they are enough and all are finite.

    Raises:
        UserError: for other arrays.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise UserError(f"codes are of shape {codes.shape}: this score needs vectors, [n, latent]")
    if len(codes) < FEWEST_IMAGES:
        raise UserError(f"{counted(len(codes), 'image')}: this score needs {FEWEST_IMAGES} at least")
    if codes.shape[1] < dimensions:
        raise UserError(
            f"the latent space has {counted(codes.shape[1], 'dimension')} and this score compares "
            f"dimensions: it needs {dimensions} at least"
        )
    if not np.isfinite(codes).all():
        raise UserError("some codes are not finite: the model has diverged; evaluate an earlier checkpoint")
    return codes.astype(np.float64)


def check_varied(factors: Factors) -> None:
    """Refuse a factor that has one value in all these images, and so cannot be learnt from them.

    Raises:
        UserError: for the first such factor.
    """
    for number, column in enumerate(factors.T, 1):
        if (column == column[0]).all():
            raise UserError(
                f"factor {number} of {factors.shape[1]} has one value, {column[0]}, in all {len(column):,} images: "
                "leave it out, or give images in which it varies"
            )


def varying(codes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which dimensions of codes `[n, latent]` are not constant, `[latent]`."""
    return codes.var(axis=0) > CONSTANT


def sample(
    codes: NDArray[np.float64], factors: NDArray[np.int64], images: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return so many rows, drawn without replacement; all of them, in order, where there are no more.

    Raises:
        UserError: where a factor has one value in them.
    """
    if images >= len(codes):
        return codes, factors
    rows = np.random.default_rng(seed).choice(len(codes), images, replace=False)
    check_varied(factors[rows])
    return codes[rows], factors[rows]


@dataclass(frozen=True)
class Split:
    """Images to fit a predictor to, and others to test it on."""

    train_codes: NDArray[np.float64]  # [train, latent]
    train_factors: NDArray[np.int64]  # [train, factors]
    test_codes: NDArray[np.float64]  # [test, latent]
    test_factors: NDArray[np.int64]  # [test, factors]


def split(codes: NDArray[np.float64], factors: NDArray[np.int64], train: int, test: int, seed: int) -> Split:
    """Return two sets of rows, drawn without replacement; of fewer than `train + test` rows, all, in that proportion.

    Raises:
        UserError: where a factor has one value in the training rows.
    """
    count = len(codes)
    if count < train + test:
        train = min(max(count * train // (train + test), 1), count - 1)
        test = count - train
    rows = np.random.default_rng(seed).permutation(count)[: train + test]
    first, second = rows[:train], rows[train:]
    check_varied(factors[first])
    return Split(codes[first], factors[first], codes[second], factors[second])


class SameValue:
    """Finds images that share the value of a factor with a given image.

    Raises:
        UserError: for a value that fewer than two images have.
    """

    def __init__(self, factors: NDArray[np.int64]) -> None:
        self._rows = np.argsort(factors, axis=0, kind="stable")  # of a column, images of the same value are together
        self._start = np.empty_like(factors)  # for each image, where those of its value begin
        self._count = np.empty_like(factors)  # for each image, how many have its value
        for k, column in enumerate(factors.T):
            values, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
            if (counts < 2).any():
                raise UserError(
                    f"factor {k + 1} of {factors.shape[1]} has the value {values[counts < 2][0]} in a single image, "
                    "and this score compares images of the same value: give more images, or leave that image out"
                )
            self._start[:, k] = (np.cumsum(counts) - counts)[inverse]
            self._count[:, k] = counts[inverse]

    def draw(
        self, factor: NDArray[np.int64], row: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return a row for each of `row`, drawn from those that have the same value of the `factor` beside it.

        `factor` is of the shape of `row`, or broadcast to it.
        """
        place = generator.random(row.shape) * self._count[row, factor]
        return self._rows[self._start[row, factor] + place.astype(np.int64), factor]


def random_code(images: int, latent: int, seed: int = 0) -> NDArray[np.float32]:
    """Return codes `[images, latent]` that know nothing of the images, N(0, I): what to hold a score against."""
    return np.random.default_rng(seed).standard_normal((images, latent), dtype=np.float32)
