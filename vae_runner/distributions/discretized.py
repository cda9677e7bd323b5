"""Continuous distributions cut into the 256 levels of a pixel."""

import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.event import event_sum
from vae_runner.distributions.levels import gaussian_level_log_prob, logistic_level_log_prob, to_levels


@dataclass(frozen=True)
class DiscretizedLogistic(Density):
    """Independent pixels of 256 levels with a logistic distribution's masses (Kingma et al., 2016)."""

    location: tf.Tensor  # float32 [batch, …], in units of an image in [0, 1]
    log_scale: tf.Tensor  # float32, broadcasts

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean before the cut into levels, with what is below 0 moved to 0, and above 1 to 1."""
        return clipped_logistic_mean(self.location, self.log_scale)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return levels, without a gradient."""
        uniform = tf.clip_by_value(noise.uniform(self.location.shape[1:]), 1e-7, 1 - 1e-7)
        logistic = tf.math.log(uniform) - tf.math.log1p(-uniform)
        return to_levels(self.location + tf.exp(self.log_scale) * logistic)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of the log masses of levels `value`: `[batch]`, in nats."""
        return event_sum(logistic_level_log_prob(value, self.location, self.log_scale))


@dataclass(frozen=True)
class DiscretizedGaussian(Density):
    """Independent pixels of 256 levels with a Gaussian's masses."""

    location: tf.Tensor  # float32 [batch, …], in units of an image in [0, 1]
    log_scale: tf.Tensor  # float32, broadcasts

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean before the cut into levels, with what is below 0 moved to 0, and above 1 to 1."""
        scale = keras.ops.exp(self.log_scale)
        return scale * (_partial_mean(self.location / scale) - _partial_mean((self.location - 1) / scale))

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return levels, without a gradient."""
        return to_levels(self.location + tf.exp(self.log_scale) * noise.normal(self.location.shape[1:]))

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of the log masses of levels `value`: `[batch]`, in nats."""
        return event_sum(gaussian_level_log_prob(value, self.location, self.log_scale))


def clipped_logistic_mean(location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Return the mean of a logistic distribution clipped to [0, 1], elementwise."""
    scale = keras.ops.exp(log_scale)
    return scale * (keras.ops.softplus(location / scale) - keras.ops.softplus((location - 1) / scale))


def _partial_mean(x: tf.Tensor) -> tf.Tensor:
    """Return the integral of the standard normal distribution function up to x: x Φ(x) + φ(x), elementwise."""
    ops = keras.ops
    return x * 0.5 * (1 + ops.erf(x / math.sqrt(2))) + ops.exp(-ops.square(x) / 2) / math.sqrt(2 * math.pi)
