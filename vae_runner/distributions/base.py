"""The interfaces of a distribution, of the random numbers that it is drawn with, and of a family of distributions."""

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
        """Return the log-density of `value` `[batch, …]`: `[batch]`, in nats; raise NotImplementedError without one."""


class Family:
    """A family of distributions. One with weights of its own is a `keras.layers.Layer` too, which tracks them.

    They are trained, checkpointed and saved like those of the networks.
    """

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """Return the weights; none where the class is no layer, whichever of its base classes comes first."""
        return getattr(super(), "variables", ())

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """Return the weights that the optimizer updates."""
        return getattr(super(), "trainable_variables", ())
