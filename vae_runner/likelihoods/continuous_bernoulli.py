"""A continuous Bernoulli distribution for each pixel (Loaiza-Ganem & Cunningham, 2019)."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions import continuous_bernoulli
from vae_runner.likelihoods.base import BLACK, WHITE, LogitLikelihood

FIRST_LOGIT = 0.9  # of the bound, at most: at the bound itself a logit would have no gradient
BISECTIONS = 60  # halve the interval of the logit down to rounding


class ContinuousBernoulli(LogitLikelihood):
    """Densities ∝ exp(logits · x) over pixels x in [0, 1].

    Where an image is always black or white the density grows with the logit without bound: logits stay within
    ±`max_logit`.
    """

    measure = "unit interval"

    def __init__(self, max_logit: float) -> None:
        self._max_logit = max_logit

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> continuous_bernoulli.ContinuousBernoulli:
        """Return the distributions of a batch's pixels."""
        bounded = self._max_logit * keras.ops.tanh(parameters["logits"] / self._max_logit)
        return continuous_bernoulli.ContinuousBernoulli(bounded)

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the logits, before their bound, at which the mean is this one, or the nearest that they can reach."""
        mean = np.clip(mean, BLACK, WHITE)
        high = np.full(mean.shape, FIRST_LOGIT * self._max_logit)
        low = -high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            is_below = np.asarray(continuous_bernoulli.ContinuousBernoulli(tf.constant(middle)).mean) < mean
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return {"logits": self._max_logit * np.arctanh((low + high) / 2 / self._max_logit)}
