"""Distributions over codes: at each position of z one of finitely many vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.base import Noise

TINY = 1e-20  # a uniform number of 0 would make an infinite Gumbel number


@dataclass(frozen=True)
class Quantized:
    """All mass on the codes nearest to what an encoder gave, to which gradients pass straight through."""

    embedding: tf.Tensor  # float32 [batch, dimensions]
    nearest: tf.Tensor  # float32 [batch, dimensions], the vectors of the codes, in a row
    codes: tf.Tensor  # int32 [batch, positions]

    @property
    def mean(self) -> tf.Tensor:
        """Return the vectors of the codes, with the embedding's gradient (van den Oord et al., 2017, section 3.2)."""
        return self.embedding + tf.stop_gradient(self.nearest - self.embedding)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return the vectors of the codes: there is nothing to draw."""
        return self.mean

    def drawn_codes(self, noise: Noise) -> tf.Tensor:
        """Return the codes, int32 `[batch, positions]`: there is nothing to draw."""
        return self.codes

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Raise NotImplementedError: a code that is chosen for certain has no density."""
        raise NotImplementedError("codes that are chosen for certain have no density")


@dataclass(frozen=True)
class Categorical:
    """Independent categorical variables; a value is the one-hots of all of them, in a row."""

    logits: tf.Tensor  # float32 [batch, variables, categories]

    @property
    def mean(self) -> tf.Tensor:
        """Return the probabilities, float32 `[batch, variables · categories]`."""
        return self._in_a_row(tf.nn.softmax(self.logits))

    @property
    def codes(self) -> tf.Tensor:
        """Return the likeliest category of each variable, int32 `[batch, variables]`."""
        return tf.argmax(self.logits, axis=-1, output_type=tf.int32)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return one-hots, without a gradient: the largest of logits with Gumbel noise."""
        return self._in_a_row(_one_hot(self._perturbed(noise)))

    def drawn_codes(self, noise: Noise) -> tf.Tensor:
        """Return the categories of a draw, int32 `[batch, variables]`: the same that `sample` makes one-hots of."""
        return tf.argmax(self._perturbed(noise), axis=-1, output_type=tf.int32)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return Σ value · log probability: of one-hots `[batch, variables · categories]` `[batch]`, in nats."""
        return tf.reduce_sum(value * self._in_a_row(tf.nn.log_softmax(self.logits)), axis=1)

    def entropy(self) -> tf.Tensor:
        """Return −Σ probability · log probability: `[batch]`, in nats."""
        return -tf.reduce_sum(tf.nn.softmax(self.logits) * tf.nn.log_softmax(self.logits), axis=[1, 2])

    def _perturbed(self, noise: Noise) -> tf.Tensor:
        uniform = tf.maximum(noise.uniform(self.logits.shape[1:]), TINY)
        return self.logits - tf.math.log(-tf.math.log(uniform))

    def _in_a_row(self, values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, self.logits.shape[1] * self.logits.shape[2]])


@dataclass(frozen=True)
class RelaxedCategorical(Categorical):
    """Categorical variables whose draws have a gradient (Jang et al., 2017: Gumbel-softmax).

    A draw is softmax((logits + Gumbel noise) / temperature); with `straight_through` it is the one-hot of its largest
    number, with the gradient of that softmax.
    """

    temperature: tf.Tensor  # a float32 scalar
    straight_through: bool

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return one draw for each image, float32 `[batch, variables · categories]`."""
        perturbed = self._perturbed(noise)
        relaxed = tf.nn.softmax(perturbed / self.temperature)
        if self.straight_through:
            relaxed += tf.stop_gradient(_one_hot(perturbed) - relaxed)
        return self._in_a_row(relaxed)


CodeDistribution = Quantized | Categorical


@dataclass(frozen=True)
class UniformCodes:
    """At each position one of `codes` codes, all equally likely; a value is what `embed` makes of them."""

    positions: int
    codes: int
    embed: Callable[[tf.Tensor], tf.Tensor]  # from int32 [batch, positions] to float32 [batch, dimensions]

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean over the codes, float32 `[1, dimensions]`."""
        every = tf.repeat(tf.range(self.codes)[:, tf.newaxis], self.positions, axis=1)
        return tf.reduce_mean(self.embed(every), axis=0, keepdims=True)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return what stands for codes drawn one by one, float32 `[images, dimensions]`: without a gradient."""
        drawn = tf.cast(noise.uniform([self.positions]) * self.codes, tf.int32)
        # A uniform number just below 1 can be rounded up by the product.
        return self.embed(tf.minimum(drawn, self.codes - 1))

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return −positions · log(codes), in nats, `[batch]`, of values that stand for codes."""
        return tf.fill(tf.shape(value)[:1], -self.entropy()[0])

    def entropy(self) -> tf.Tensor:
        """Return positions · log(codes): `[1]`, in nats."""
        return self.positions * tf.math.log([float(self.codes)])


@dataclass(frozen=True)
class WeighedCodes:
    """At each position one of finitely many codes, each with a probability; a value is what `embed` makes of them."""

    logits: tf.Tensor  # float32 [positions, codes]
    embed: Callable[[tf.Tensor], tf.Tensor]  # from int32 [batch, positions] to float32 [batch, dimensions]
    one_hots: Callable[[tf.Tensor], tf.Tensor]  # from float32 [batch, dimensions] to float32 [batch, positions, codes]

    @property
    def log_probs(self) -> tf.Tensor:
        """Return the logarithms of the codes' probabilities, `[positions, codes]`."""
        return tf.nn.log_softmax(self.logits)

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean over the codes, float32 `[1, dimensions]`."""
        positions, codes = self.logits.shape
        every = self.embed(tf.repeat(tf.range(codes)[:, tf.newaxis], positions, axis=1))
        by_position = tf.reshape(every, [codes, positions, -1])
        return tf.reshape(tf.einsum("pc,cpd->pd", tf.nn.softmax(self.logits), by_position), [1, -1])

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return what stands for codes drawn one by one, float32 `[images, dimensions]`: without a gradient."""
        positions, codes = self.logits.shape
        uniform = tf.transpose(noise.uniform([positions]))
        up_to = tf.cumsum(tf.nn.softmax(self.logits), axis=1)
        # oneDNN transposes no integers on some CPUs, and complains of that.
        drawn = tf.transpose(tf.cast(tf.searchsorted(up_to, uniform, side="right"), tf.float32))
        # A sum of probabilities can be rounded to less than 1.
        return self.embed(tf.minimum(tf.cast(drawn, tf.int32), codes - 1))

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return Σ log probability of the codes that values stand for: `[batch]`, in nats.

        Of relaxed one-hots it is Σ value · log probability.
        """
        return tf.reduce_sum(self.one_hots(value) * self.log_probs, axis=[1, 2])


def _one_hot(values: tf.Tensor) -> tf.Tensor:
    """Return 1 at the largest number of the last axis, and 0 elsewhere."""
    return tf.one_hot(tf.argmax(values, axis=-1), values.shape[-1])


def perplexity(frequencies: NDArray[np.float64]) -> float:
    """Return exp(−Σ f log f) of frequencies f that sum to 1: the number of codes, were all equally frequent."""
    positive = frequencies[frequencies > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))
