"""IRS, the interventional robustness score (Suter et al., 2019, Robustly Disentangled Causal Mechanisms).

Where factor v_k is fixed, how far can the others move dimension z_j? For each value of v_k, the deviation from the mean
of its images, |z_j − E(z_j | v_k)|, of which the `quantile` is taken; averaged over the values and divided by the
largest deviation from the mean of all, max |z_j − E(z_j)|. The dimension's score is 1 less the least of that over the
factors, and the score is their mean, weighted by the largest deviations.

Quantile 1 is the paper's; 0.99 is disentanglement_lib's, which feels outliers less. Factors of more than `bins` values
are put into bins of equal width, as there. Constant dimensions are left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.discretization import in_bins
from vae_runner.evaluation.labelled_codes import Codes, Factors, checked, sample, varying


@dataclass(frozen=True)
class IRS:
    """The score, and what it is made of."""

    score: float  # in [0, 1]
    robustness: NDArray[np.float64]  # [latent, factors]: 1 less the relative deviation; NaN for constant dimensions
    dimensions: int  # that are not constant


def irs(
    codes: Codes, factors: Factors, *, images: int = 10_000, bins: int = 20, quantile: float = 0.99, seed: int = 0
) -> IRS:
    """Return the interventional robustness of codes `[n, latent]` for integer factors `[n, factors]`.

    Raises:
        UserError: for codes or a factor that do not vary, or values that are not finite.
    """
    codes, factors = sample(*checked(codes, factors), images, seed)
    active = varying(codes)
    z = codes[:, active]
    largest = np.abs(z - z.mean(axis=0)).max(axis=0)
    robustness = np.full((codes.shape[1], factors.shape[1]), np.nan)
    numbered = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    for k, values in enumerate(in_bins(numbered.astype(np.float64), bins).T):
        groups = [z[values == value] for value in np.unique(values)]
        deviations = [np.quantile(np.abs(group - group.mean(axis=0)), quantile, axis=0) for group in groups]
        robustness[active, k] = 1 - np.mean(deviations, axis=0) / largest
    score = np.average(robustness[active].max(axis=1), weights=largest)
    return IRS(float(score), robustness, int(active.sum()))
