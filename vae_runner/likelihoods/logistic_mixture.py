"""A mixture of logistic distributions for each pixel, over its colours together, cut into 256 levels."""

import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions import logistic_mixture
from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.base import Likelihood, PixelParameter
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR


class LogisticMixture(Likelihood):
    """PixelCNN++'s likelihood (Salimans et al., 2017, section 2.1), with `components` components."""

    measure = "levels"

    def __init__(self, components: int) -> None:
        self._components = components

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a logit for each component, and for each component and channel a location and a log-scale.

        For colour images there are three coefficients a component too: of red in green's location, and of red and of
        green in blue's.
        """
        parameters = {
            "logits": PixelParameter(self._components),
            "locations": PixelParameter(channels * self._components),
            "log_scales": PixelParameter(channels * self._components),
        }
        if channels == 3:
            parameters["coefficients"] = PixelParameter(3 * self._components, "tanh")
        return parameters

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> logistic_mixture.LogisticMixture:
        """Return the mixtures of a batch's pixels."""
        coefficients = parameters.get("coefficients")
        return logistic_mixture.LogisticMixture(
            parameters["logits"],
            # The decoder's numbers are in units of half an image's range, around mid-grey.
            0.5 + 0.5 * self._by_component(parameters["locations"]),
            soft_floor(self._by_component(parameters["log_scales"]) - math.log(2), LOG_SCALE_FLOOR),
            None if coefficients is None else self._by_component(coefficients),
        )

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the outputs for which every component has its location at the mean."""
        return {"locations": np.repeat(2 * mean - 1, self._components, axis=-1)}

    def _by_component(self, values: tf.Tensor) -> tf.Tensor:
        """Return `[batch, height, width, n · components]` as `[batch, height, width, n, components]`."""
        height, width, numbers = values.shape[1:]
        return keras.ops.reshape(values, (-1, height, width, numbers // self._components, self._components))
