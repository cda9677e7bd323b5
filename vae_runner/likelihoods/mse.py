"""The tutorial's pseudo-likelihood: a weighted mean squared error."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.squared_error import SquaredError
from vae_runner.likelihoods.base import MeanLikelihood


class MeanSquaredError(MeanLikelihood):
    """The mean squared error, without a density: its weight is a choice, and the tutorial's is 1000."""

    weight = 1000.0
    measure = None

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> SquaredError:
        """Return the pseudo-likelihoods of a batch, of means float32 `[batch, height, width, channels]`."""
        return SquaredError(parameters["mean"])
