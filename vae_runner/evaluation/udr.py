"""UDR, unsupervised disentanglement ranking (Duan et al., 2020, Unsupervised Model Selection for VAEs).

Needs no labels, but several runs that differ by their seeds: where their dimensions correspond one to one, they are
taken to be disentangled. For two runs' codes of the same images, standardised, R_ab is the size of dimension a's
coefficient in a lasso regression of the other run's dimension b (α = 0.1), or of their rank correlation (Spearman).
Then

    UDR_pair = ½ (mean over columns of max² / sum + mean over rows of max² / sum)

and a run's UDR is the median over its pairs. Dimensions with a mean KL term of no more than `threshold` are left out.
The lasso is not symmetric, so that a pair's score is the mean of both directions (disentanglement_lib takes one).

By lasso, runs that agree perfectly have 1 − α = 0.9, for uncorrelated codes; by rank correlation nearly 1 (chance
correlations of few images take something). Codes that are independent have about 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.evaluation.labelled_codes import Codes, checked_codes, varying

UDR_IMAGES = 1_000


@dataclass(frozen=True)
class UDR:
    """The score of each run, and what it is the median of."""

    scores: NDArray[np.float64]  # [runs], in [0, 1]
    pairs: NDArray[np.float64]  # [runs, runs], symmetric; NaN on the diagonal
    dimensions: NDArray[np.int64]  # that were compared, [runs]


def udr(
    codes: Sequence[Codes],
    kl: Sequence[NDArray[np.floating]] | None = None,
    *,
    by: Literal["lasso", "spearman"] = "lasso",
    images: int = UDR_IMAGES,
    threshold: float = 0.01,
    alpha: float = 0.1,
    seed: int = 0,
) -> UDR:
    """Return the UDR of runs with codes `[n, latent]` of the same n images, and mean KL terms `[latent]`, in nats.

    Without `kl`, all dimensions that vary are compared. A run with none left shares nothing with any other: 0.

    Raises:
        UserError: for fewer than two runs, codes of different numbers of images, values that are not finite, or where
            no two runs have a dimension left.
    """
    runs = [checked_codes(each) for each in codes]
    if len(runs) < 2:
        raise UserError("this score compares runs: give two at least, of the same configuration with other seeds")
    if len({len(each) for each in runs}) > 1:
        raise UserError("the runs have codes of different numbers of images: encode the same images with each")
    if images < len(runs[0]):
        rows = np.random.default_rng(seed).choice(len(runs[0]), images, replace=False)
        runs = [each[rows] for each in runs]
    kept = [varying(each) for each in runs]
    if kl is not None:
        kept = [active & (np.asarray(of_run) > threshold) for active, of_run in zip(kept, kl, strict=True)]
    if sum(mask.any() for mask in kept) < 2:
        raise UserError(
            "fewer than two runs have a dimension that says something of the images: the others have collapsed, and "
            "there is nothing to compare"
        )
    standardized = [_standardized(each[:, mask], by) for each, mask in zip(runs, kept, strict=True)]
    pairs = np.full((len(runs), len(runs)), np.nan)
    for i, first in enumerate(standardized):
        for j, second in enumerate(standardized[:i]):
            if by == "lasso":
                both = [_lasso(first, second, alpha), _lasso(second, first, alpha)]
            else:
                both = [np.abs(first.T @ second) / len(first)]
            pairs[i, j] = pairs[j, i] = np.mean([one_to_one(matrix) for matrix in both])
    return UDR(np.nanmedian(pairs, axis=1), pairs, np.array([mask.sum() for mask in kept]))


def one_to_one(similarity: NDArray[np.float64]) -> float:
    """Return how far a matrix of similarities `[dimensions, others]`, none negative, has one entry a row and column."""
    if not similarity.size:
        return 0.0

    def strength(axis: int) -> float:
        sums = similarity.sum(axis=axis)
        return float(np.mean(similarity.max(axis=axis) ** 2 / np.where(sums > 0, sums, 1)))

    return (strength(0) + strength(1)) / 2


def _standardized(codes: NDArray[np.float64], by: str) -> NDArray[np.float64]:
    """Return codes, or their ranks, with mean 0 and variance 1."""
    from scipy.stats import rankdata

    values = rankdata(codes, axis=0) if by == "spearman" else codes
    return (values - values.mean(axis=0)) / values.std(axis=0)


def _lasso(inputs: NDArray[np.float64], outputs: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Return the sizes of the coefficients of all outputs' regressions, `[inputs, outputs]`."""
    from sklearn.linear_model import Lasso  # takes a second to import

    if not inputs.shape[1] or not outputs.shape[1]:
        return np.zeros((inputs.shape[1], outputs.shape[1]))
    coefficients = Lasso(alpha=alpha).fit(inputs, outputs).coef_
    return np.abs(coefficients).reshape(outputs.shape[1], inputs.shape[1]).T
