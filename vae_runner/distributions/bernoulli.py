"""Bernoulli variables, for images of two levels."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.event import event_sum


def binary_log_prob(value: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return value · logits − softplus(logits), elementwise: exact, where a sigmoid would be clipped."""
    return value * logits - tf.nn.softplus(logits)


@dataclass(frozen=True)
class Bernoulli(Density):
    """Independent variables in {0, 1}, each 1 with probability sigmoid(logits); float32 `[batch, …]`."""

    logits: tf.Tensor

    @property
    def mean(self) -> tf.Tensor:
        """Return the probabilities of 1."""
        return keras.ops.sigmoid(self.logits)

    @property
    def mode(self) -> tf.Tensor:
        """Return the more probable values."""
        return tf.cast(self.logits > 0, tf.float32)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return zeros and ones, without a gradient."""
        return tf.cast(noise.uniform(self.logits.shape[1:]) < tf.sigmoid(self.logits), tf.float32)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return Σ value · logits − softplus(logits): `[batch]`, in nats."""
        return event_sum(binary_log_prob(value, self.logits))

    def entropy(self) -> tf.Tensor:
        """Return Σ softplus(logits) − logits · sigmoid(logits): `[batch]`, in nats."""
        return event_sum(tf.nn.softplus(self.logits) - self.logits * tf.sigmoid(self.logits))


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy of grey images with Bernoulli variables, in place of a density.

    For an image in [0, 1] it is the mean of the Bernoulli's −log p(b) over images b that are drawn with the image's
    values as probabilities. Its least value is the entropy of those draws, not 0.
    """

    logits: tf.Tensor  # float32 [batch, height, width, channels]

    @property
    def mean(self) -> tf.Tensor:
        """Return the image with the least error."""
        return keras.ops.sigmoid(self.logits)

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy, summed over an image's pixels and channels: `[batch]`, in nats."""
        return -event_sum(binary_log_prob(images, self.logits))
