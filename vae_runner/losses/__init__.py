"""Losses: pure functions of an autoencoder and a batch."""

from typing import Any, ClassVar, NamedTuple, Protocol

import tensorflow as tf


class Batch(NamedTuple):
    """What a loss is taken of."""

    images: tf.Tensor  # float32 in [0, 1], [batch, height, width, channels]
    noise: tf.Tensor  # float32, standard normal, [batch, latent]
    epoch: tf.Tensor  # float32 scalar: how many epochs of training are behind, with the fraction of the current one


class Loss(Protocol):
    """What the trainer asks of a loss."""

    terms: ClassVar[tuple[str, ...]]  # the names of what it is made of

    def __call__(self, autoencoder: Any, batch: Batch, training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The scalar to minimise, and its named terms; each a mean over the batch."""
