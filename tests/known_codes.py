"""Codes computed from factors, whose scores are known.

dSprites' factors, independent and uniform. Codes are standardised, one dimension for a factor, and then spoilt.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

SIZES = np.array([3, 6, 40, 32, 32])
IMAGES = 15_000  # 10,000 to learn from, 5,000 to test on


def draw_factors(images: int = IMAGES, sizes: NDArray[np.int64] = SIZES, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(sizes, size=(images, len(sizes)))


def one_to_one(factors: NDArray[np.int64], sizes: NDArray[np.int64] = SIZES) -> NDArray[np.float64]:
    return (factors - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)


def rotated(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix the last two dimensions by 45°."""
    x, y = codes[:, -2:].T
    return np.column_stack([codes[:, :-2], (x - y) / np.sqrt(2), (x + y) / np.sqrt(2)])


@cache
def known_codes() -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return factors `[n, 5]`, and codes `[n, latent]` by name."""
    factors = draw_factors()
    perfect = one_to_one(factors)
    noise = np.random.default_rng(1).normal(size=(4, IMAGES, 5))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    return factors, {
        "one-to-one": perfect,
        "gaussianised": norm.ppf((factors + 0.5) / SIZES),
        "permuted": perfect[:, [3, 1, 4, 0, 2]] * [1, -1, 1, -1, -1],
        "dead": np.hstack([perfect, 0.01 * noise[0]]),
        "twice": np.hstack([perfect, perfect]),
        "noisy": np.hstack([perfect + 0.3 * noise[0], noise[1]]),
        "45°": rotated(perfect),
        "rotation": perfect @ rotation,
        "random": np.hstack([noise[2], noise[3]]),
    }
