"""Likelihoods with a location and a scale, and where these come from: the decoder, a key, a weight or the batch."""

import math
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.base import ImageDistribution, Likelihood, PixelParameter, logit

LOG_SCALE_FLOOR = -7.0  # exp(−7) is about a quarter of the distance between two of 256 levels
FIRST_SCALE = 0.25  # of a learned scale: nearer to what images need than 1, from where it takes epochs to get there
OPTIMAL = "optimal"
MOMENTUM = 0.9  # of the average of optimal scales over training steps


def location_parameter(channels: int, squash_mean: bool) -> PixelParameter:
    """Return what a decoder gives for the location: in [0, 1] where it is squashed."""
    return PixelParameter(channels, "sigmoid" if squash_mean else None)


def location_bias(mean: NDArray[np.float64], squash_mean: bool) -> dict[str, NDArray[np.float64]]:
    """Return a decoder's output before its activation where the location is `mean`."""
    return {"mean": logit(mean) if squash_mean else mean}


class SharedScale(Likelihood, keras.layers.Layer):
    """A likelihood with one scale for all pixels.

    `scale` is a number, the scale itself; None for a trained weight; or "optimal". Then it is in training the scale at
    which a batch's images are most likely, (mean |x − location|^power)^(1 / power) over batch and pixels (Rybkin et
    al., 2021, section 4.2), and elsewhere the average of the last training steps' scales: one that is fitted to the
    images under evaluation would make them look more likely than they are.
    """

    measure = "unit interval"
    power: int  # of a pixel's distance from the location, in −log p(x|z)

    def __init__(self, scale: float | str | None, squash_mean: bool) -> None:
        super().__init__()
        self._squash_mean = squash_mean
        self._scale = scale
        if scale is None:
            initializer = keras.initializers.Constant(math.log(FIRST_SCALE))
            self._weight = self.add_weight(shape=(), initializer=initializer, dtype="float32", name="log_scale")
        elif scale == OPTIMAL:
            # The average of scale^power, and the part of it that steps have contributed so far.
            self._average = self.add_weight(shape=(2,), initializer="zeros", dtype="float32", trainable=False)

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean for each channel."""
        return {"mean": location_parameter(channels, self._squash_mean)}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the output that makes a mean, before its activation."""
        return location_bias(mean, self._squash_mean)

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> ImageDistribution:
        """Return the distributions of a batch."""
        return self.with_scale(parameters["mean"], self.log_scale)

    def with_scale(self, mean: tf.Tensor, log_scale: tf.Tensor) -> ImageDistribution:
        """Return the distributions with a location, `[batch, height, width, channels]`, and a scalar log-scale."""
        raise NotImplementedError

    def fitted(
        self, distribution: ImageDistribution, images: tf.Tensor, gather: Callable[[tf.Tensor], tf.Tensor]
    ) -> ImageDistribution:
        """Return the distribution with the optimal scale, where `scale` is "optimal", and count it in the average.

        No gradient goes through the scale: at its optimum the loss has none with respect to it, and so the mean of
        −log p(x|z) over the batch has the gradient of pixels / power · log(mean |x − location|^power). A bound of
        several draws weighs them unequally, and takes the scale, the optimum of equal weights, as given.
        """
        if self._scale != OPTIMAL:
            return distribution
        of_images = tf.reduce_mean(tf.abs(images - distribution.mean) ** self.power, axis=[1, 2, 3])
        optimum = tf.stop_gradient(tf.reduce_mean(gather(of_images)))
        new = tf.stack([optimum, 1.0])
        self._average.assign(MOMENTUM * self._average.value + (1 - MOMENTUM) * new)
        return self.with_scale(distribution.mean, self._log_scale_of(optimum))

    @property
    def log_scale(self) -> tf.Tensor:
        """Return the logarithm of the scale, a scalar."""
        if self._scale is None:
            return soft_floor(self._weight, LOG_SCALE_FLOOR)
        if self._scale != OPTIMAL:
            return tf.constant(math.log(float(self._scale)))
        total, part = tf.unstack(self._average.value)
        return self._log_scale_of(tf.where(part > 0, tf.math.divide_no_nan(total, part), FIRST_SCALE**self.power))

    def _log_scale_of(self, mean_power: tf.Tensor) -> tf.Tensor:
        """Return the logarithm, no lower than the floor, of the scale whose power this is."""
        return tf.math.log(tf.maximum(mean_power, math.exp(self.power * LOG_SCALE_FLOOR))) / self.power


class PixelScale(Likelihood):
    """A likelihood with a scale for each pixel and channel, which the decoder gives."""

    measure = "unit interval"

    def __init__(self, squash_mean: bool) -> None:
        self._squash_mean = squash_mean

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean and the logarithm of a scale for each channel."""
        return {"mean": location_parameter(channels, self._squash_mean), "log_scale": PixelParameter(channels)}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the output that makes a location; the mean of a density cut into levels is nearer to mid-grey."""
        return location_bias(mean, self._squash_mean)
