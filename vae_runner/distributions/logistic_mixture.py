"""Mixtures of discretised logistic distributions (Salimans et al., 2017, section 2.1: PixelCNN++)."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Density, Noise
from vae_runner.distributions.discretized import clipped_logistic_mean
from vae_runner.distributions.levels import logistic_level_log_prob, to_levels


@dataclass(frozen=True)
class LogisticMixture(Density):
    """Independent pixels, each of a mixture of M components over its channels together.

    In a component a channel's location moves linearly with the levels of the channels before it, by `coefficients`: of
    green by red, of blue by red, of blue by green.
    """

    logits: tf.Tensor  # float32 [batch, height, width, M]
    locations: tf.Tensor  # float32 [batch, height, width, channels, M], in units of an image in [0, 1]
    log_scales: tf.Tensor  # of the same shape
    coefficients: tf.Tensor | None  # float32 [batch, height, width, 3, M]; None: a grey image

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean `[batch, height, width, channels]`; a channel's moves with the means of those before it."""
        weights = keras.ops.softmax(self.logits, axis=-1)
        means: list[tf.Tensor] = []
        for channel in range(self.locations.shape[-2]):
            location = self._moved(channel, means)
            means.append(clipped_logistic_mean(location, self.log_scales[..., channel, :]))
        return keras.ops.stack([keras.ops.sum(weights * mean, axis=-1) for mean in means], axis=-1)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return levels, without a gradient: a component is drawn for each pixel, then its channels one by one."""
        shape = self.locations.shape[1:]
        gumbel = -tf.math.log(-tf.math.log(tf.clip_by_value(noise.uniform(self.logits.shape[1:]), 1e-7, 1 - 1e-7)))
        chosen = tf.one_hot(tf.argmax(self.logits + gumbel, axis=-1), shape[-1])
        uniform = tf.clip_by_value(noise.uniform(shape[:-1]), 1e-7, 1 - 1e-7)
        logistic = tf.math.log(uniform) - tf.math.log1p(-uniform)
        levels: list[tf.Tensor] = []
        for channel in range(shape[-2]):
            moved = self._moved(channel, [level[..., tf.newaxis] for level in levels])
            location = tf.reduce_sum(chosen * moved, axis=-1)
            log_scale = tf.reduce_sum(chosen * self.log_scales[..., channel, :], axis=-1)
            levels.append(to_levels(location + tf.exp(log_scale) * logistic[..., channel]))
        return tf.stack(levels, axis=-1)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the sum over pixels of log Σ weight · Π mass of each channel's level: `[batch]`, in nats."""
        channels = [value[..., channel, tf.newaxis] for channel in range(value.shape[-1])]
        joint = tf.nn.log_softmax(self.logits, axis=-1)
        for channel, level in enumerate(channels):
            location = self._moved(channel, channels[:channel])
            joint += logistic_level_log_prob(level, location, self.log_scales[..., channel, :])
        return tf.reduce_sum(tf.reduce_logsumexp(joint, axis=-1), axis=[1, 2])

    def _moved(self, channel: int, before: list[tf.Tensor]) -> tf.Tensor:
        """Return a channel's locations `[…, M]`, moved by the values of those before it, `[…, M or 1]`."""
        location = self.locations[..., channel, :]
        if self.coefficients is None:
            return location
        for other in range(channel):
            # Around mid-grey, so that the coefficients of a new network do not shift the colours.
            location = location + self.coefficients[..., channel - 1 + other, :] * (before[other] - 0.5)
        return location
