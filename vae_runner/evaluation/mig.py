"""MIG, the mutual information gap (Chen et al., 2018, Isolating Sources of Disentanglement in VAEs).

MIG = mean over factors of (I(z_(1); v_k) − I(z_(2); v_k)) / H(v_k): how much more the best dimension knows of a factor
than the second best. Mutual information by counting, each dimension in `bins` equally wide bins, entropy of the sampled
values: disentanglement_lib's definition and sizes.

So many bins hold no factor with more values: dSprites' perfect code has 0.90 with 20 bins, its ceiling. Others differ:
beta-tcvae integrates a kernel mixture over samples and leaves dSprites' shape out; disentangling-correlated-factors
bins the factors, too; Carbonneau et al. (2020) use 10 bins and divide by the code's entropy. Equal bins feel outliers:
one at 12 standard deviations takes 0.05 from a noisy code. With less than 10,000 images the score is lower.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.discretization import entropy, in_bins, mutual_information
from vae_runner.evaluation.labelled_codes import Codes, Factors, checked, sample


@dataclass(frozen=True)
class MIG:
    """The gap, and what it is made of."""

    score: float  # in [0, ceiling]
    ceiling: float  # the score of a perfect code with so many bins
    per_factor: NDArray[np.float64]  # [factors]
    ceiling_per_factor: NDArray[np.float64]  # [factors]
    mutual_information: NDArray[np.float64]  # [latent, factors], nats, as counted
    bias: NDArray[np.float64]  # [latent, factors], nats, by which that is too large
    entropy: NDArray[np.float64]  # of the factors, [factors], nats
    images: int  # that were used


def mig(codes: Codes, factors: Factors, *, images: int = 10_000, bins: int = 20, seed: int = 0) -> MIG:
    """Return the mutual information gap of codes `[n, latent]` for integer factors `[n, factors]`.

    Raises:
        UserError: for one dimension only, codes or a factor that do not vary, or values that are not finite.
    """
    codes, factors = sample(*checked(codes, factors, dimensions=2), images, seed)
    information, bias = mutual_information(in_bins(codes, bins), factors)
    counts = [np.unique(column, return_counts=True)[1] for column in factors.T]
    entropies = np.array([entropy(of_values) for of_values in counts])
    second, best = np.sort(information, axis=0)[-2:]
    gaps = (best - second) / entropies
    ceilings = np.array([mig_ceiling(of_values, bins) for of_values in counts])
    return MIG(
        float(gaps.mean()), float(ceilings.mean()), gaps, ceilings, information, bias, entropies, len(codes)
    )  # fmt: skip


def mig_ceiling(counts: NDArray[np.integer], bins: int = 20) -> float:
    """Return the largest gap for a factor whose values occur so often, `[values]`, with codes in so many bins.

    A code knows most if each value has a bin to itself, or shares it evenly: the most frequent value goes to the
    emptiest bin, and so on. That is exact for values that are equally frequent, else nearly so.
    """
    filled = [0] * bins
    for count in sorted(map(int, counts), reverse=True):
        heapq.heapreplace(filled, filled[0] + count)
    return entropy(np.array(filled)) / entropy(counts)
