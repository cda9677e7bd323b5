"""Gaussians whose dimensions depend on each other."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Noise
from vae_runner.distributions.gaussian import LOG_2_PI


@dataclass(frozen=True)
class FullGaussian:
    """N(mean, scale scaleᵀ)."""

    mean: tf.Tensor  # float32 [batch, dimensions]
    scale: tf.Tensor  # float32 [batch, dimensions, dimensions]: lower triangular, with a positive diagonal

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return mean + scale ε: differentiable."""
        return self.mean + tf.linalg.matvec(self.scale, noise.normal(self.mean.shape[1:]))

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return −½ ‖scale⁻¹ (value − mean)‖² − Σ log diag(scale) − ½ dimensions · log 2π: `[batch]`, in nats."""
        whitened = tf.linalg.triangular_solve(self.scale, (value - self.mean)[..., tf.newaxis])[..., 0]
        return -0.5 * tf.reduce_sum(LOG_2_PI + tf.square(whitened), axis=1) - self.log_volume()

    def entropy(self) -> tf.Tensor:
        """Return ½ Σ (1 + log 2π) + Σ log diag(scale): `[batch]`, in nats."""
        return 0.5 * self.mean.shape[1] * (1 + LOG_2_PI) + self.log_volume()

    def log_volume(self) -> tf.Tensor:
        """Return the logarithm of the determinant of `scale`: `[batch]`."""
        return tf.reduce_sum(tf.math.log(tf.linalg.diag_part(self.scale)), axis=1)
