"""Gaussians whose dimensions are independent."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Noise

LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_var))); both parameters are float32 `[batch, dimensions]`."""

    mean: tf.Tensor
    log_var: tf.Tensor

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return mean + exp(log_var / 2) · ε: reparameterised (Kingma & Welling, 2014, section 2.4)."""
        return self.mean + tf.exp(self.log_var / 2) * noise.normal(self.mean.shape[1:])

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return −½ Σ (log 2π + log_var + (value − mean)² / exp(log_var)): `[batch]`, in nats."""
        square = tf.math.squared_difference(value, self.mean) * tf.exp(-self.log_var)
        return -0.5 * tf.reduce_sum(LOG_2_PI + self.log_var + square, axis=-1)

    def entropy(self) -> tf.Tensor:
        """Return ½ Σ (1 + log 2π + log_var): `[batch]`, in nats."""
        return 0.5 * tf.reduce_sum(1 + LOG_2_PI + self.log_var, axis=-1)


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I): the same for every image."""

    dimensions: int

    @property
    def mean(self) -> tf.Tensor:
        """Return zeros, float32 `[1, dimensions]`."""
        return tf.zeros([1, self.dimensions])

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return ε, float32 `[images, dimensions]`."""
        return noise.normal([self.dimensions])

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return −½ Σ (log 2π + value²): `[batch]`, in nats."""
        return -0.5 * tf.reduce_sum(LOG_2_PI + tf.square(value), axis=-1)

    def entropy(self) -> tf.Tensor:
        """Return ½ Σ (1 + log 2π): `[1]`, in nats."""
        return tf.constant([0.5 * self.dimensions * (1 + LOG_2_PI)])

    def quantile(self, probability: tf.Tensor) -> tf.Tensor:
        """Return where the distribution function of each dimension reaches a probability in (0, 1)."""
        return tf.math.ndtri(probability)
