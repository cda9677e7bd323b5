"""The interfaces of a distribution, and of the random numbers that it is drawn with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf


class Noise(Protocol):
    """A source of random numbers for the images of a batch; every call is another draw.

    The numbers of an image do not depend on how a batch is shared by replicas.
    """

    def normal(self, shape: Sequence[int]) -> tf.Tensor:
        """Return standard normal numbers, float32 `[images, *shape]`."""

    def uniform(self, shape: Sequence[int]) -> tf.Tensor:
        """Return uniform numbers in [0, 1), float32 `[images, *shape]`."""


class Density:
    """What a density of images has besides: it is a likelihood, whose error is −log p(x|z)."""

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, …]`: `[batch]`, in nats."""
        raise NotImplementedError

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return −log p(x|z) of images: `[batch]`, in nats."""
        return -self.log_prob(images)


@dataclass(frozen=True)
class Factorised(Density):
    """A density whose dimensions are independent."""

    mean: tf.Tensor

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return one draw for each image: differentiable."""
        raise NotImplementedError

    @property
    def variance(self) -> tf.Tensor:
        """Return the variance of each dimension, of a value's shape."""
        raise NotImplementedError

    def log_prob_by_dimension(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of each number of `value`, in nats; parameters and `value` broadcast."""
        raise NotImplementedError

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, …]`, the sum over its dimensions: `[batch]`, in nats."""
        by_dimension = self.log_prob_by_dimension(value)
        return tf.reduce_sum(by_dimension, axis=list(range(1, by_dimension.shape.rank)))


class Distribution(Protocol):
    """A distribution for each image of a batch, with the names of TensorFlow Probability.

    Values are float32 `[batch, …]`. Those that have them offer `entropy()` `[batch]` in nats and `mode` too.
    """

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean, of a value's shape."""

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return one draw for each image, differentiable with respect to the parameters where it can be."""

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, …]`: `[batch]`, in nats.

        Raises:
            NotImplementedError: the distribution has no density.
        """
