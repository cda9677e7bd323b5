"""Precision, recall, density and coverage: by balls around features that reach to the k-th nearest other one.

*Precision* is the share of samples which are in the ball of some real image, *recall* the share of real images which
are in the ball of some sample (Kynkäänniemi et al., 2019; k = 3). *Density* is the number of real images' balls that a
sample is in, over k, on average, and *coverage* the share of real images in whose balls there is a sample (Naeem et
al., 2020; k = 5).

A ball includes its surface (≤), as in Kynkäänniemi's code; Naeem's has <, with which nothing is in the ball of an image
that is there several times, and copies of the real images have a density of 1 in place of 1 + 1/k. Naeem's code has
k = 5 for precision and recall too, which makes them larger. torch-fidelity before 0.4 had these two swapped.

For samples of the distribution of the real images, coverage is 1 − Π (n − i)/(2n − i) over i = 1 … k, near 1 − 2⁻ᵏ,
and density 1, whatever the dimension; precision and recall are equal and sink with it (0.79 for n = 500 normal ones in
16 dimensions, 0.55 in 512). So they are compared with those of real images from real images. A density above 1.1 is
not better than real: the samples stay in the middle, as those of a blurry VAE do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.distances import check_features, rounding, squared_distances, to_nearest_others

Features = NDArray[np.floating]  # [n, d]

OVER_CONCENTRATED = 1.1  # density above which samples are more in the middle than the real images themselves


@dataclass(frozen=True)
class PrecisionRecall:
    """How samples lie among real images, in some features."""

    precision: float  # share of samples near a real image: are they realistic?
    recall: float  # share of real images near a sample: is everything there?
    density: float  # of real images' balls around a sample, over k; 1 for equal distributions, and not bounded
    coverage: float  # share of real images that have a sample near


def precision_recall(samples: Features, reference: Features, *, k: int = 3, coverage_k: int = 5) -> PrecisionRecall:
    """Return precision and recall with balls that reach to the `k`-th neighbour, density and coverage to another.

    Raises:
        UserError: fewer images than a ball needs, or features that cannot be compared.
    """
    furthest = max(k, coverage_k)
    check_features(samples, reference, furthest + 1, f"a ball which reaches to the {furthest}-th other image")
    slack = rounding(samples, reference)
    sample_radii = to_nearest_others(samples, k)[:, k - 1] + slack
    neighbours = to_nearest_others(reference, furthest)
    radii, coverage_radii = neighbours[:, k - 1] + slack, neighbours[:, coverage_k - 1] + slack
    precise, recalled = np.zeros(len(samples), bool), np.zeros(len(reference), bool)
    covered, balls = np.zeros(len(reference), bool), 0
    for rows, columns, squares in squared_distances(samples, reference):
        precise[rows] |= (squares <= radii[columns]).any(axis=1)
        recalled[columns] |= (squares <= sample_radii[rows, None]).any(axis=0)
        near = squares <= coverage_radii[columns]
        covered[columns] |= near.any(axis=0)
        balls += int(near.sum())
    return PrecisionRecall(
        float(precise.mean()), float(recalled.mean()), balls / (coverage_k * len(samples)), float(covered.mean())
    )
