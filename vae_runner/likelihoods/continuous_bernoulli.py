"""A continuous Bernoulli distribution a pixel (Loaiza-Ganem & Cunningham, 2019)."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from vae_runner.distributions import continuous_bernoulli
from vae_runner.likelihoods.base import Likelihood, PixelParameter


class ContinuousBernoulli(Likelihood):
    """Densities ∝ exp(logits · x) over pixels x in [0, 1].

    Where an image is always black or white the density grows with the logit without bound: logits stay within
    ±`max_logit`.
    """

    measure = "unit interval"

    def __init__(self, max_logit: float) -> None:
        self._max_logit = max_logit

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a logit for each channel."""
        return {"logits": PixelParameter(channels)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> continuous_bernoulli.ContinuousBernoulli:
        """Return the distributions of a batch's pixels."""
        bounded = self._max_logit * keras.ops.tanh(parameters["logits"] / self._max_logit)
        return continuous_bernoulli.ContinuousBernoulli(bounded)
