"""Student's t distributions, whose tails let single pixels be far off."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.event import event_sum
from vae_runner.distributions.gamma import log_gamma_sample


@dataclass(frozen=True)
class StudentT(Density):
    """Independent t distributions of one number of degrees of freedom.

    `mean` is float32 `[batch, …]`; `log_scale` and `degrees_of_freedom`, which is greater than 1, broadcast.
    """

    mean: tf.Tensor
    log_scale: tf.Tensor
    degrees_of_freedom: tf.Tensor

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return mean + scale · ε · √(ν / 2g), g drawn from Gamma(ν / 2, 1): differentiable."""
        half = self.degrees_of_freedom / 2
        normal = noise.normal(self.mean.shape[1:])
        log_gamma = log_gamma_sample(half + tf.zeros_like(self.mean), noise)
        return self.mean + tf.exp(self.log_scale - (log_gamma - tf.math.log(half)) / 2) * normal

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of log densities: `[batch]`, in nats.

        Each is log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(νπ) − log_scale − (ν+1)/2 · log(1 + t²/ν), with
        t = (value − mean) / scale.
        """
        nu = self.degrees_of_freedom
        t = (value - self.mean) * tf.exp(-self.log_scale)
        constant = tf.math.lgamma((nu + 1) / 2) - tf.math.lgamma(nu / 2) - 0.5 * tf.math.log(nu * math.pi)
        return event_sum(constant - self.log_scale - (nu + 1) / 2 * tf.math.log1p(tf.square(t) / nu))
