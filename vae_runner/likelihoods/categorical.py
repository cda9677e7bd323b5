"""A probability for each of the 256 levels of a pixel: no order of the levels is assumed."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from vae_runner.distributions.categorical_levels import CategoricalLevels
from vae_runner.distributions.levels import TOP_LEVEL
from vae_runner.likelihoods.base import Likelihood, PixelParameter


class Categorical(Likelihood):
    """p(x|z) = Π softmax(logits) at the level of each pixel and channel (van den Oord et al., 2016, section 2.2)."""

    measure = "levels"

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return 256 logits for each channel."""
        return {"logits": PixelParameter(channels * (TOP_LEVEL + 1))}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> CategoricalLevels:
        """Return the distributions of a batch's pixels."""
        height, width, logits = parameters["logits"].shape[1:]
        shape = (-1, height, width, logits // (TOP_LEVEL + 1), TOP_LEVEL + 1)
        return CategoricalLevels(keras.ops.reshape(parameters["logits"], shape))
