"""The interfaces of a distribution, of the random numbers that it is drawn with, and of a family of distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from vae_runner.distributions.event import event_sum


class Noise(Protocol):
    """A source of random numbers for the images of a batch; every call is another draw.

    The numbers of an image do not depend on how a batch is shared by replicas.
    """

    def normal(self, shape: Sequence[int]) -> tf.Tensor:
        """Return standard normal numbers, float32 `[images, *shape]`."""

    def uniform(self, shape: Sequence[int]) -> tf.Tensor:
        """Return uniform numbers in [0, 1), float32 `[images, *shape]`."""


class Density:
    """A density, which can be a likelihood of images too: its `error` is −log p(x|z)."""

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, …]`: `[batch]`, in nats."""
        raise NotImplementedError

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return −log p(x|z) of images: `[batch]`, in nats."""
        return -self.log_prob(images)


@dataclass(frozen=True)
class Factorised(Density):
    """A density whose dimensions are independent."""

    mean: tf.Tensor  # float32 [batch, …]

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
        return event_sum(self.log_prob_by_dimension(value))


class Distribution(Protocol):
    """A distribution for each image of a batch, with the names of TensorFlow Probability.

    Values are float32 `[batch, …]`. Some also have an `entropy()`, `[batch]` in nats, and a `mode`.
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

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the weights, if there are any, for images and latents of these shapes.

        `latent_shape` is `(latent,)`, or (height, width, latent) of a spatial one, with `latent` as it is configured:
        z has as many dimensions as the product, unless the posterior's `z_shape` says otherwise. `classes` is the
        number of classes where networks or prior need labels; else 0.
        """

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """Return the weights; none where the class is no layer, whichever of its base classes comes first."""
        return getattr(super(), "variables", ())

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """Return the weights that the optimizer updates."""
        return getattr(super(), "trainable_variables", ())
