"""The β-VAE score (Higgins et al., 2017, β-VAE, section 3), in disentanglement_lib's form and sizes.

Of `batch` pairs of images, each pair with the same value of a random factor, the mean of |z − z'| is a point `[latent]`
with the factor as its label. The score is the accuracy of a logistic regression on further points. Chance is
1 / factors. Higgins et al. fit fewer points with a linear classifier of their own. scikit-learn's regression was
one-against-rest when disentanglement_lib's numbers were published, and is multinomial now. It is regularised (C = 1),
and points are not standardised: codes of a small scale score less. The score cannot see noise or duplicates in a code.

Images of a shared value are looked up among the given ones; on a full grid of factors that is the published procedure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.labelled_codes import Codes, Factors, SameValue, checked

POINTS_AT_A_TIME = 100  # for the memory
ITERATIONS = 1_000  # of the regression; it converges in far fewer


@dataclass(frozen=True)
class BetaVAEScore:
    """The score."""

    score: float  # in [0, 1]
    train_score: float  # accuracy on the points that the regression was fitted to
    chance: float  # 1 / factors


def beta_vae_score(
    codes: Codes, factors: Factors, *, batch: int = 64, train: int = 10_000, test: int = 5_000, seed: int = 0
) -> BetaVAEScore:
    """Return the β-VAE score of codes `[n, latent]` for integer factors `[n, factors]`; `train`, `test` count points.

    Raises:
        UserError: for one factor only, a value that a single image has, codes or a factor that do not vary, or values
            that are not finite.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    codes, factors = checked(codes, factors, factor_count=2)
    same_value = SameValue(factors)
    generator = np.random.default_rng(seed)

    def points(count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = generator.integers(factors.shape[1], size=count)
        found = np.empty((count, codes.shape[1]))
        for start in range(0, count, POINTS_AT_A_TIME):
            label = labels[start : start + POINTS_AT_A_TIME]
            first = generator.integers(len(codes), size=(len(label), batch))
            second = same_value.draw(label[:, None], first, generator)
            found[start : start + len(label)] = np.abs(codes[first] - codes[second]).mean(axis=1)
        return found, labels

    fitted_to, further = points(train), points(test)
    model = LogisticRegression(max_iter=ITERATIONS).fit(*fitted_to)
    return BetaVAEScore(float(model.score(*further)), float(model.score(*fitted_to)), 1 / factors.shape[1])
