"""The cross-entropy of grey images, which many tutorials train with; no density."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions import bernoulli
from vae_runner.likelihoods.base import Likelihood, PixelParameter, logit


class CrossEntropy(Likelihood):
    """−Σ x log p + (1 − x) log(1 − p) for pixels x in [0, 1].

    That is the mean of a Bernoulli likelihood's −log p(b|z) over binary images b drawn with x as probabilities.
    """

    measure = None

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a logit for each channel."""
        return {"logits": PixelParameter(channels)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> bernoulli.CrossEntropy:
        """Return what the errors of a batch's images are taken from."""
        return bernoulli.CrossEntropy(parameters["logits"])

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the logits of mean pixels."""
        return {"logits": logit(mean)}
