"""Modularity (Ridgeway and Mozer, 2018, Learning Deep Disentangled Embeddings With the F-Statistic Loss).

For a dimension z_j with mutual information I_jk with factor v_k, by counting as in `mig.py`,

    T_j = 1 − (Σ_k I_jk² − max_k I_jk²) / (max_k I_jk² (K − 1)),    0 where I is 0,

and the score is its mean over all dimensions: does each know of one factor only? A ratio of noises is not small: pure
noise has 0.63 to 0.69 for dSprites' factors. Never show it without a score that sees noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.discretization import in_bins, mutual_information
from vae_runner.evaluation.labelled_codes import Codes, Factors, checked, sample


@dataclass(frozen=True)
class Modularity:
    """The score, and what it is made of."""

    score: float  # in [0, 1]
    per_dimension: NDArray[np.float64]  # T, [latent]
    mutual_information: NDArray[np.float64]  # [latent, factors], nats, as counted


def modularity(codes: Codes, factors: Factors, *, images: int = 10_000, bins: int = 20, seed: int = 0) -> Modularity:
    """Return the modularity of codes `[n, latent]` for integer factors `[n, factors]`.

    Raises:
        UserError: for one factor only, codes or a factor that do not vary, or values that are not finite.
    """
    codes, factors = sample(*checked(codes, factors, factor_count=2), images, seed)
    information, _ = mutual_information(in_bins(codes, bins), factors)
    each = modularity_per_dimension(information)
    return Modularity(float(each.mean()), each, information)


def modularity_per_dimension(information: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return T_j, `[latent]`, of a matrix of mutual information `[latent, factors]`."""
    squares = information**2
    most = squares.max(axis=1)
    others = (squares.sum(axis=1) - most) / (np.where(most > 0, most, 1) * (squares.shape[1] - 1))
    return np.where(most > 0, 1 - others, 0)
