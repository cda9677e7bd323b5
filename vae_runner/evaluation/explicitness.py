"""Explicitness (Ridgeway and Mozer, 2018, Learning Deep Disentangled Embeddings With the F-Statistic Loss).

How well a linear rule finds each value of a factor in the whole code: the area under the ROC curve of a logistic
regression's probability of that value against all others, on test images; mean over the values, then over the factors.
Chance is 0.5 (Carbonneau et al., 2020, show 2 (area − ½) instead). Codes are standardised by the training images.
Sizes are disentanglement_lib's. A value that is in none of the test images, or in all of them, is left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.evaluation.labelled_codes import Codes, Factors, checked, split, varying

ITERATIONS = 1_000  # of the regression; it converges in far fewer


@dataclass(frozen=True)
class Explicitness:
    """The score, and what it is the mean of."""

    score: float  # in [0, 1]; 0.5 is chance
    per_factor: NDArray[np.float64]  # [factors]


def explicitness(
    codes: Codes, factors: Factors, *, train: int = 10_000, test: int = 5_000, seed: int = 0
) -> Explicitness:
    """Return the explicitness of codes `[n, latent]` for integer factors `[n, factors]`.

    Raises:
        UserError: for codes or a factor that do not vary, or values that are not finite.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    parts = split(*checked(codes, factors), train, test, seed)
    mean, scale = parts.train_codes.mean(axis=0), parts.train_codes.std(axis=0)
    scale = np.where(varying(parts.train_codes), scale, 1)
    train_codes, test_codes = (parts.train_codes - mean) / scale, (parts.test_codes - mean) / scale
    areas = np.empty(factors.shape[1])
    for k, (fitted_to, values) in enumerate(zip(parts.train_factors.T, parts.test_factors.T, strict=True)):
        model = LogisticRegression(max_iter=ITERATIONS).fit(train_codes, fitted_to)
        if len(np.unique(values)) < 2:
            raise UserError(
                f"factor {k + 1} of {len(areas)} has one value in the {len(values):,} images that explicitness is "
                "tested on: give more images, or leave it out"
            )
        areas[k] = np.nanmean(areas_under_curve(model.predict_proba(test_codes), values[:, None] == model.classes_))
    return Explicitness(float(areas.mean()), areas)


def areas_under_curve(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each column of `scores [n, columns]`; NaN where it has one class."""
    from scipy.stats import rankdata

    count = positive.sum(axis=0)
    pairs = count * (len(positive) - count)
    above = np.sum(rankdata(scores, axis=0) * positive, axis=0) - count * (count + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
