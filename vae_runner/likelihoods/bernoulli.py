"""A Bernoulli variable for each pixel, for binary images."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions import bernoulli
from vae_runner.likelihoods.base import Likelihood, PixelParameter, logit


class Bernoulli(Likelihood):
    """p(x|z) = Π sigmoid(logits)^x (1 − sigmoid(logits))^(1 − x) for pixels x in {0, 1}."""

    measure = "binary"

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a logit for each channel."""
        return {"logits": PixelParameter(channels)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> bernoulli.Bernoulli:
        """Return the variables of a batch's pixels."""
        return bernoulli.Bernoulli(parameters["logits"])

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the logits of mean pixels."""
        return {"logits": logit(mean)}
