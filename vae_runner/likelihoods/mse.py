"""The tutorial's pseudo-likelihood: a weighted mean squared error."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.squared_error import SquaredError
from vae_runner.likelihoods.base import Likelihood, PixelParameter, logit


class MeanSquaredError(Likelihood):
    """The mean squared error, without a density: its weight is a choice, and the tutorial's is 1000."""

    weight = 1000.0
    measure = None

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean in [0, 1]."""
        return {"mean": PixelParameter(channels, "sigmoid")}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> SquaredError:
        """Return the pseudo-likelihoods of a batch, of means float32 `[batch, height, width, channels]`."""
        return SquaredError(parameters["mean"])

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return what the sigmoid maps to mean pixels."""
        return {"mean": logit(mean)}
