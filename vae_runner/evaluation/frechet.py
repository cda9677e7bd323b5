"""Fréchet distance of two sets of features: of the Gaussians with their means and covariances.

‖μ − μ'‖² + tr(Σ + Σ' − 2(ΣΣ')^½) (Dowson and Landau, 1982; for images Heusel et al., 2017, in Inception's features).
It is called FID only in these. tr (ΣΣ')^½ is the sum of the square roots of the eigenvalues of Σ^½Σ'Σ^½, which is
symmetric: the roots are real however singular the covariances are, where `scipy.linalg.sqrtm(Σ @ Σ')`, which
public implementations use, gives complex or unstable ones. Covariances are divided by n − 1, as theirs.

Two sets of n images of one distribution are not at distance 0, but about
[2 tr Σ + Σᵢⱼ λᵢλⱼ/(λᵢ + λⱼ) + ½ tr Σ]/n, where λ are the eigenvalues of Σ: d(d + 5)/(2n) for Σ = I. So distances are
compared at one n, beside that of real images from real images; `frechet_distance_limit` extrapolates to infinite n.
"""

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.evaluation.distances import check_features

Features = NDArray[np.floating]  # [n, d]

IMAGES_PER_FEATURE = 10  # with fewer, most of the distance is the bias
SIZES = 15  # of subsets, for the limit


def frechet_distance(samples: Features, reference: Features, *, images_per_feature: int = IMAGES_PER_FEATURE) -> float:
    """Return the Fréchet distance of the samples' features from those of real images.

    Raises:
        UserError: fewer images than `images_per_feature` for each feature, or features that cannot be compared.
    """
    least = max(images_per_feature * samples.shape[-1], 2)
    check_features(samples, reference, least, f"a Fréchet distance in {samples.shape[-1]} features")
    return _distance(np.asarray(samples, np.float64), np.asarray(reference, np.float64))


def frechet_distance_limit(
    samples: Features,
    reference: Features,
    *,
    sizes: int = SIZES,
    images_per_feature: int = IMAGES_PER_FEATURE,
    seed: int = 0,
) -> float:
    """Return the limit of the Fréchet distance for infinitely many images (Chong and Forsyth, 2020).

    It is a of the least-squares fit a + b/n to the distances of subsets of n images of either set, at `sizes` values
    of n from a tenth of the images (or as many as `images_per_feature` asks for) to all. Chong and Forsyth take
    subsets of the samples only, of a fixed reference, whose own bias then stays. Values below 0 are chance.

    Raises:
        UserError: fewer than twice as many images as the smallest subset must have, or features that cannot be
            compared.
    """
    if sizes < 2:
        raise UserError(f"a line through {sizes} sizes of subsets is not determined: take at least 5")
    smallest = max(images_per_feature * samples.shape[-1], 2)
    check_features(samples, reference, 2 * smallest, f"the limit of Fréchet distances in {samples.shape[-1]} features")
    rng = np.random.default_rng(seed)
    every = min(len(samples), len(reference))
    counts = np.linspace(max(smallest, every // 10), every, sizes).round().astype(int)
    distances = [
        _distance(*(of[rng.choice(len(of), count, replace=False)].astype(np.float64) for of in (samples, reference)))
        for count in counts
    ]
    slope_and_limit = np.polyfit(1 / counts, distances, 1)
    return float(slope_and_limit[1])


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    covariance_a, covariance_b = (np.atleast_2d(np.cov(of, rowvar=False)) for of in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = root @ covariance_b @ root
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return max(float(means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * overlap), 0.0)
