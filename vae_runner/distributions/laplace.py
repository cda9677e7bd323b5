"""Laplace distributions whose dimensions are independent."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Factorised, Noise
from vae_runner.distributions.event import event_sum

LOG_2 = math.log(2)


@dataclass(frozen=True)
class Laplace(Factorised):
    """Densities exp(−|x − mean| / scale) / (2 scale); `mean` is float32 `[batch, …]`, and `log_scale` broadcasts."""

    log_scale: tf.Tensor

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return mean − scale · sign(u) · log(1 − 2 |u|) for u uniform in [−½, ½): differentiable."""
        centred = noise.uniform(self.mean.shape[1:]) - 0.5
        # u = −½ would be infinitely far away.
        magnitude = -tf.math.log1p(-tf.minimum(2 * tf.abs(centred), 1 - 2**-24))
        return self.mean + tf.exp(self.log_scale) * tf.sign(centred) * magnitude

    def log_prob_by_dimension(self, value: tf.Tensor) -> tf.Tensor:
        """Return −|value − mean| / scale − log 2 − log_scale; parameters and `value` broadcast."""
        return -(tf.abs(value - self.mean) * tf.exp(-self.log_scale) + LOG_2 + self.log_scale)

    @property
    def variance(self) -> tf.Tensor:
        """Return 2 · scale², of the mean's shape."""
        return 2 * tf.exp(2 * (self.log_scale + tf.zeros_like(self.mean)))

    def entropy(self) -> tf.Tensor:
        """Return Σ (1 + log 2 + log_scale): `[batch]`, in nats."""
        return event_sum(1 + LOG_2 + self.log_scale + tf.zeros_like(self.mean))
