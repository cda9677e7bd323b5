"""Likelihoods with a location and a scale: where these come from."""

import math

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.base import Likelihood, PixelParameter, logit

LOG_SCALE_FLOOR = -7.0  # a quarter of a level of 256
FIRST_SCALE = 0.25  # of a learned one: nearer to what images need than 1, from where a slow optimizer takes epochs


def location_parameter(channels: int, squash_mean: bool) -> PixelParameter:
    """Return what a decoder gives for the location: in [0, 1] where it is squashed."""
    return PixelParameter(channels, "sigmoid" if squash_mean else None)


def location_bias(mean: NDArray[np.float64], squash_mean: bool) -> dict[str, NDArray[np.float64]]:
    """Return a decoder's output before its activation where the location is `mean`."""
    return {"mean": logit(mean) if squash_mean else mean}


class SharedScale(Likelihood, keras.layers.Layer):
    """A likelihood with one scale for all pixels: `scale`, or if that is None a weight."""

    measure = "unit interval"

    def __init__(self, scale: float | None, squash_mean: bool) -> None:
        super().__init__()
        self._squash_mean = squash_mean
        self._log_scale = None if scale is None else math.log(scale)
        if scale is None:
            first = keras.initializers.Constant(math.log(FIRST_SCALE))
            self._weight = self.add_weight(shape=(), initializer=first, dtype="float32", name="log_scale")

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean for each channel."""
        return {"mean": location_parameter(channels, self._squash_mean)}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the output at a mean."""
        return location_bias(mean, self._squash_mean)

    @property
    def log_scale(self) -> tf.Tensor:
        """Return the logarithm of the scale, a scalar."""
        if self._log_scale is not None:
            return tf.constant(self._log_scale)
        return soft_floor(self._weight, LOG_SCALE_FLOOR)


class PixelScale(Likelihood):
    """A likelihood with a scale for each pixel and channel, which the decoder gives."""

    measure = "unit interval"

    def __init__(self, squash_mean: bool) -> None:
        self._squash_mean = squash_mean

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean and the logarithm of a scale for each channel."""
        return {"mean": location_parameter(channels, self._squash_mean), "log_scale": PixelParameter(channels)}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the output at a location; of a density that is cut into levels the mean is nearer to mid-grey."""
        return location_bias(mean, self._squash_mean)
