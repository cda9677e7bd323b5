"""What a loss is given, and what the trainer asks of it."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from vae_runner.distributions.base import Noise
from vae_runner.models.autoencoder import Autoencoder

AUTOENCODER = "autoencoder"  # the player that every loss has


class Batch(NamedTuple):
    """What a loss is taken of."""

    images: tf.Tensor  # float32 in [0, 1], [batch, height, width, channels]
    labels: tf.Tensor | None  # int64, [batch]; None where the dataset has none
    noise: Noise
    epoch: tf.Tensor  # float32 scalar: how many epochs of training are behind, with the fraction of the current one
    split_size: int = 1  # how many images the split has that these are from
    first: tf.Tensor = 0  # int64 scalar, where in the whole batch this replica's images begin
    # Of `[images of this replica, …]`, what all replicas have of the batch: `[images of the batch, …]`.
    gather: Callable[[tf.Tensor], tf.Tensor] = tf.identity


class Loss:
    """An objective: a pure function. What changes over time comes in with the batch.

    A *player* is a list of variables, the scalar that it minimises, and an optimizer. The autoencoder is one; a loss
    with opponents names them too, and returns a scalar for each.
    """

    terms: ClassVar[tuple[str, ...]]  # the names of what it is made of

    @property
    def needs_density(self) -> bool:
        """Whether it takes the posterior's log_prob or KL divergence."""
        return False

    def players(self, autoencoder: Autoencoder) -> dict[str, list[Any]]:
        """Return the variables of each player by its name, the autoencoder's first."""
        return {AUTOENCODER: autoencoder.trainable_variables}

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor | Mapping[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what to minimise, and its named terms; each a mean over the batch.

        What to minimise is a scalar for each player by its name, or one scalar where there is only the autoencoder.
        """
        raise NotImplementedError


def reconstruction_term(autoencoder: Autoencoder, batch: Batch, likelihood: Any, weight: float | None) -> tf.Tensor:
    """Return weight × the mean over the batch of −log p(x|z), or of a pseudo-likelihood's error.

    Without a weight it is the likelihood's own.
    """
    weight = autoencoder.likelihood.weight if weight is None else weight
    has_density = autoencoder.likelihood.measure is not None
    error = -likelihood.log_prob(batch.images) if has_density else likelihood.error(batch.images)
    return weight * tf.reduce_mean(error)
