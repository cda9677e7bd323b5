"""A probability for each of the 256 levels of a pixel."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.event import event_sum
from vae_runner.distributions.levels import TOP_LEVEL


@dataclass(frozen=True)
class CategoricalLevels(Density):
    """Independent pixels; logits are float32 `[batch, height, width, channels, 256]`."""

    logits: tf.Tensor

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean level, in units of an image in [0, 1]."""
        levels = keras.ops.arange(TOP_LEVEL + 1, dtype="float32") / TOP_LEVEL
        return keras.ops.sum(keras.ops.softmax(self.logits, axis=-1) * levels, axis=-1)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return levels, without a gradient: the largest of logits with Gumbel noise."""
        uniform = tf.clip_by_value(noise.uniform(self.logits.shape[1:]), 1e-7, 1 - 1e-7)
        level = tf.argmax(self.logits - tf.math.log(-tf.math.log(uniform)), axis=-1)
        return tf.cast(level, tf.float32) / TOP_LEVEL

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum of the log probabilities of levels `value` in [0, 1]: `[batch]`, in nats."""
        level = tf.cast(tf.round(value * TOP_LEVEL), tf.int32)
        return -event_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=level, logits=self.logits))
