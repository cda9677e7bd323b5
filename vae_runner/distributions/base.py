"""The interfaces of a distribution, and of the random numbers that it is drawn with."""

from collections.abc import Sequence
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
