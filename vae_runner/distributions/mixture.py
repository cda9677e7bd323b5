"""Mixtures of Gaussians whose dimensions are independent."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Noise
from vae_runner.distributions.gaussian import LOG_2_PI


@dataclass(frozen=True)
class GaussianMixture:
    """Σ weight · N(mean, diag(exp(log_var))) over components: the same for every image."""

    logits: tf.Tensor  # float32 [components]; their softmax are the weights
    means: tf.Tensor  # float32 [components, dimensions]
    log_vars: tf.Tensor  # float32 [components, dimensions]

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean of all components, `[1, dimensions]`."""
        return tf.reduce_sum(tf.nn.softmax(self.logits)[:, tf.newaxis] * self.means, axis=0, keepdims=True)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return draws `[images, dimensions]`, differentiable with respect to means and variances only."""
        uniform = noise.uniform([1])
        below = tf.cumsum(tf.nn.softmax(self.logits), exclusive=True)
        chosen = tf.reduce_sum(tf.cast(uniform >= below, tf.int32), axis=1) - 1
        means, log_vars = tf.gather(self.means, chosen), tf.gather(self.log_vars, chosen)
        return means + tf.exp(log_vars / 2) * noise.normal(self.means.shape[1:])

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return log Σ weight · N(value): `[batch]`, in nats."""
        return tf.reduce_logsumexp(tf.nn.log_softmax(self.logits) + self.component_log_prob(value), axis=1)

    def component_log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, dimensions]` in each component: `[batch, components]`, in nats."""
        squares = tf.math.squared_difference(value[:, tf.newaxis], self.means) * tf.exp(-self.log_vars)
        return -0.5 * tf.reduce_sum(LOG_2_PI + self.log_vars + squares, axis=2)
