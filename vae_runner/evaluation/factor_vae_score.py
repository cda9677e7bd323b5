"""The FactorVAE score (Kim and Mnih, 2018, Disentangling by Factorising, section 4).

Of `batch` images that share the value of a random factor, the dimension that varies least, relative to its variance
over all images, votes for the factor. A dimension stands for the factor that most of its votes are for; the score is
the share of further votes that are right. Chance is 1 / factors. Sizes are disentanglement_lib's, as is the threshold
below which a dimension has no vote: it keeps dimensions of noise from winning, and hides what little ones know (a
perfect code with one factor at a standard deviation of 0.04 has 0.79). disentanglement_lib's own default is 0, with
which a constant dimension makes every vote 0/0; constant ones never vote here.

The score cannot see noise or duplicates in a code. Noisy codes do better with a larger `batch`. Images of a shared
value are looked up among the given ones; on a full grid of factors that is the published procedure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.labelled_codes import CONSTANT, Codes, Factors, SameValue, checked

VOTES_AT_A_TIME = 100  # for the memory


@dataclass(frozen=True)
class FactorVAEScore:
    """The score, and whom the dimensions vote for."""

    score: float  # in [0, 1]
    train_score: float  # of the votes that the majorities are of
    votes: NDArray[np.int64]  # the latter, [latent, factors]
    dimensions: int  # that vote; without any, the scores are 0
    chance: float  # 1 / factors


def factor_vae_score(
    codes: Codes,
    factors: Factors,
    *,
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    variance_images: int = 10_000,
    threshold: float = 0.05,
    seed: int = 0,
) -> FactorVAEScore:
    """Return the FactorVAE score of codes `[n, latent]` for integer factors `[n, factors]`.

    `train` and `test` count votes; `threshold` is a standard deviation.

    Raises:
        UserError: for one factor only, a value that a single image has, codes or a factor that do not vary, or values
            that are not finite.
    """
    codes, factors = checked(codes, factors, factor_count=2)
    same_value = SameValue(factors)
    generator = np.random.default_rng(seed)
    some = generator.choice(len(codes), variance_images, replace=False) if variance_images < len(codes) else slice(None)
    variances = codes[some].var(axis=0, ddof=1)
    voting = (variances > CONSTANT) & (np.sqrt(variances) >= threshold)
    latent, count = codes.shape[1], factors.shape[1]
    if not voting.any():
        return FactorVAEScore(0.0, 0.0, np.zeros((latent, count), np.int64), 0, 1 / count)
    dimensions = np.flatnonzero(voting)
    scaled = codes[:, dimensions] / np.sqrt(variances[dimensions])

    def vote(votes: int) -> NDArray[np.int64]:
        table = np.zeros((latent, count), np.int64)
        for start in range(0, votes, VOTES_AT_A_TIME):
            size = min(VOTES_AT_A_TIME, votes - start)
            factor = generator.integers(count, size=size)
            first = generator.integers(len(codes), size=size)
            rows = same_value.draw(factor[:, None], np.broadcast_to(first[:, None], (size, batch)), generator)
            np.add.at(table, (dimensions[scaled[rows].var(axis=1, ddof=1).argmin(axis=1)], factor), 1)
        return table

    votes, further = vote(train), vote(test)
    right = further[np.arange(latent), votes.argmax(axis=1)].sum() / test
    train_score = votes.max(axis=1).sum() / train
    return FactorVAEScore(float(right), float(train_score), votes, len(dimensions), 1 / count)
