"""Gaussians whose dimensions are independent."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Factorised, Noise
from vae_runner.distributions.event import event_sum

LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian(Factorised):
    """N(mean, diag(exp(log_var))); `mean` is float32 `[batch, …]`, and `log_var` broadcasts."""

    log_var: tf.Tensor

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return mean + exp(log_var / 2) · ε: reparameterised (Kingma & Welling, 2014, section 2.4)."""
        return self.mean + tf.exp(self.log_var / 2) * noise.normal(self.mean.shape[1:])

    def log_prob_by_dimension(self, value: tf.Tensor) -> tf.Tensor:
        """Return −½ (log 2π + log_var + (value − mean)² / exp(log_var)); parameters and `value` broadcast."""
        square = tf.math.squared_difference(value, self.mean) * tf.exp(-self.log_var)
        return -0.5 * (LOG_2_PI + self.log_var + square)

    @property
    def variance(self) -> tf.Tensor:
        """Return exp(log_var), of the mean's shape."""
        return tf.exp(self.log_var + tf.zeros_like(self.mean))

    def entropy(self) -> tf.Tensor:
        """Return ½ Σ (1 + log 2π + log_var): `[batch]`, in nats."""
        return 0.5 * event_sum(1 + LOG_2_PI + self.log_var + tf.zeros_like(self.mean))


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
