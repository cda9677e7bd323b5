"""Kernel distance of two sets of features: an unbiased squared MMD with a cubic kernel (Bińkowski et al., 2018).

k(a, b) = (a·b/d + 1)³ in d features; MMD² = mean k(x, x') + mean k(y, y') − 2 mean k(x, y) over pairs of different
images. It is called KID only in Inception's features. Of equal distributions its mean is 0, whatever the number of
images, and negative values are as frequent as positive ones; the V-statistic, which keeps the pairs of an image with
itself, is positive by about 1/n. So it is to be preferred to the Fréchet distance below some 2,000 images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.evaluation.distances import check_features

Features = NDArray[np.floating]  # [n, d]

SUBSETS = 100
SUBSET_SIZE = 1000


@dataclass(frozen=True)
class KernelDistance:
    """Squared MMD over random subsets."""

    mean: float  # over the subsets; near 0, and of either sign, where the distributions are equal
    sd: float  # of the subsets' values: of one estimate from so many images, not of the mean
    subsets: int
    subset_size: int  # images of either set in a subset


def kernel_distance(
    samples: Features,
    reference: Features,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """Return the kernel distance of the samples' features from those of real images.

    Subsets are drawn without repeating an image in one, as in the published code. Subsets that are most of all
    images resemble each other, and their sd is then too small: half of the images at most is a good size.

    Raises:
        UserError: fewer images than a subset has, or features that cannot be compared.
    """
    if subset_size < 2 or subsets < 1:
        raise UserError(f"{subsets} subsets of {subset_size} images give no kernel distance: take 1 of 2 at least")
    fewest = min(len(samples), len(reference))
    if 2 < fewest < subset_size:
        raise UserError(
            f"a kernel distance over subsets of {subset_size:,} images cannot be computed from {fewest:,}: take more "
            f"images, or subsets of at most {fewest // 2:,}"
        )
    check_features(samples, reference, subset_size, "a kernel distance")
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(*(of[rng.choice(len(of), subset_size, replace=False)] for of in (samples, reference)))
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, subset_size)


def squared_mmd(a: Features, b: Features) -> float:
    """Return the unbiased squared MMD of all `a` from all `b`, with the cubic kernel."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return _mean_of_others(_kernel(x, x)) + _mean_of_others(_kernel(y, y)) - 2 * float(_kernel(x, y).mean())


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    values = a @ b.T
    values /= a.shape[1]
    values += 1
    cubes = np.square(values)
    cubes *= values
    return cubes


def _mean_of_others(kernel: NDArray[np.float64]) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
