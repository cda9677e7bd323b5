"""The continuous Bernoulli distribution (Loaiza-Ganem & Cunningham, 2019), for images in [0, 1]."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.event import event_sum

SERIES_BELOW = 0.3  # where the closed forms lose float32's digits


@dataclass(frozen=True)
class ContinuousBernoulli(Density):
    """Independent variables in [0, 1] with densities proportional to exp(logits · x): truncated exponentials."""

    logits: tf.Tensor  # float32 [batch, …]

    @property
    def mean(self) -> tf.Tensor:
        """Return 1 / (1 − exp(−logits)) − 1 / logits, which is not sigmoid(logits)."""
        ops, logits = keras.ops, self.logits
        is_small = ops.abs(logits) < 2 * SERIES_BELOW
        small, large = ops.where(is_small, logits, 0.0), ops.where(is_small, 1.0, logits)
        series = 0.5 + small / 12 - small**3 / 720 + small**5 / 30240
        return ops.where(is_small, series, 0.5 + 0.5 / ops.tanh(large / 2) - 1 / large)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return the inverse of the distribution function at uniform numbers: differentiable."""
        uniform = noise.uniform(self.logits.shape[1:])
        is_small = tf.abs(self.logits) < 1e-3
        size = tf.abs(tf.where(is_small, 1.0, self.logits))
        # Of a positive logit, counted from the upper end, where its mass is; a negative one is its mirror image.
        fraction = tf.where(self.logits > 0, uniform, 1 - uniform)
        from_end = -tf.math.log(fraction + (1 - fraction) * tf.exp(-size)) / size
        drawn = tf.where(self.logits > 0, 1 - from_end, from_end)
        return tf.where(is_small, uniform - self.logits / 2 * uniform * (uniform - 1), drawn)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return Σ logits · (value − ½) − log(sinh(logits / 2) / (logits / 2)): `[batch]`, in nats."""
        return event_sum(self.logits * (value - 0.5) - _log_sinhc(self.logits / 2))


def _log_sinhc(x: tf.Tensor) -> tf.Tensor:
    """Return log(sinh(x) / x), elementwise."""
    size = tf.abs(x)
    is_small = size < SERIES_BELOW
    small, large = tf.where(is_small, size, 0.0), tf.where(is_small, 1.0, size)
    series = small**2 / 6 - small**4 / 180 + small**6 / 2835
    return tf.where(is_small, series, large + tf.math.log1p(-tf.exp(-2 * large)) - tf.math.log(2 * large))
