"""The interface of a loss."""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import keras
import tensorflow as tf

from vae_runner.datasets.dataset import Dataset
from vae_runner.distributions.base import Distribution, Factorised, Noise
from vae_runner.errors import UserError
from vae_runner.likelihoods.base import ImageDistribution, Likelihood
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import Posterior

AUTOENCODER = "autoencoder"  # the player that every loss has
DECODER = "decoder"  # the player that trains p(x|z) where it minimises something else than the encoder
DISCRIMINATOR = "discriminator"  # the player that tells two kinds of z, or of images, from each other


class Batch(NamedTuple):
    """What a loss is computed from, besides the autoencoder."""

    images: tf.Tensor  # float32 in [0, 1], [batch, height, width, channels]
    labels: tf.Tensor | None  # int64, [batch]; None where the dataset has none
    noise: Noise
    epoch: tf.Tensor  # float32 scalar: how many epochs are done, with the fraction of the current one
    split_size: int = 1  # how many images the split has from which these come
    first: tf.Tensor = 0  # int64 scalar: where in the batch of all replicas this one's images begin
    # From values of this replica's images, `[images, …]`, to those of all replicas, `[images of the batch, …]`.
    gather: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    average: Callable[[tf.Tensor], tf.Tensor] = tf.identity  # from a mean over this replica's images to the batch's
    step: tf.Tensor = 0  # int64 scalar: how many steps are done; in evaluation as if training were over


class Loss:
    """An objective: a pure function. What changes over time comes in with the batch.

    A *player* is a list of variables, the scalar that it minimises, and an optimizer. The autoencoder is one; a loss
    with opponents names them too, and returns a scalar for each. Their networks are attributes of the loss.
    """

    reconstruction_weight: float | None = None  # None: the likelihood's own
    decodes_means: ClassVar[bool] = False  # whether the decoder is trained on posterior means, and not on draws

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of the terms that it returns, which may depend on its keys."""
        raise NotImplementedError

    @property
    def draws(self) -> int:
        """Return how many z of each image are decoded in a step."""
        return 1

    @property
    def needs_density(self) -> bool:
        """Return whether it takes the posterior's log_prob or KL divergence."""
        return False

    @property
    def opponents(self) -> list[keras.Model]:
        """Return the networks that are attributes of the loss: those that `make_opponents` has made."""
        return [value for value in vars(self).values() if isinstance(value, keras.Model)]

    def make_opponents(self, autoencoder: Autoencoder) -> None:
        """Make the opponents' networks, as attributes; their weights get values once their size has been checked."""

    @property
    def needs_likelihood_density(self) -> bool:
        """Return whether it takes −log p(x|z), and not any error."""
        return False

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Return the variables that each player trains, by its name, the autoencoder's first."""
        return {AUTOENCODER: autoencoder.trainable_variables}

    @property
    def variables(self) -> list[tf.Variable]:
        """Return the variables of the Keras layers that are attributes of the loss, or in its lists and dictionaries.

        They are checkpointed: those that no player trains, like moving averages, decide how training continues too.
        """
        layers = [value for value in keras.tree.flatten(vars(self)) if isinstance(value, keras.layers.Layer)]
        return list({id(variable): variable for layer in layers for variable in layer.variables}.values())

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse images that the loss's keys do not go with, before any training."""

    def prepare(self, dataset: Dataset, seed: int) -> None:
        """Train what is to be trained before a new run's training begins: the network `prepared`."""

    @property
    def prepared(self) -> keras.Model | None:
        """Return the network whose weights `prepare` gives, and the run keeps; None where there is none."""
        return None

    @property
    def frozen(self) -> dict[str, str]:
        """Return a hash of the weights of each network that is never trained, by the loss's key that names it.

        Checkpoints have the hashes, and not the weights.
        """
        return {}

    def check(self, autoencoder: Autoencoder) -> None:
        """Refuse an autoencoder that the loss's keys do not go with, before any training."""

    def is_settled(self, epoch: int) -> bool:
        """Return whether what changes over the epochs, like the weight of a term, is final after so many."""
        return True

    def check_steps(self, steps: int) -> None:
        """Warn of keys that have no effect in a run of so many steps."""

    def constrain(self, autoencoder: Autoencoder) -> None:
        """Set as Keras's `variable.constraint` what is to hold for weights of the networks after each update."""

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor | Mapping[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what to minimise, and its named terms; each a mean over the batch.

        What to minimise is a scalar for each player by its name, or one scalar where there is only the autoencoder.
        """
        raise NotImplementedError


def posterior_of(autoencoder: Autoencoder, batch: Batch, training: bool) -> Distribution:
    """Return the posterior of a batch; in training the family may relax it, or be fitted to the batch."""
    posterior = autoencoder.encode(batch.images, batch.labels, training)
    return autoencoder.posterior.fitted(posterior, batch.noise, batch.epoch, batch.gather) if training else posterior


def factorised_posterior(autoencoder: Autoencoder, batch: Batch, training: bool) -> Factorised:
    """Return the posterior of a batch.

    Raises:
        UserError: its dimensions are not independent.
    """
    posterior = posterior_of(autoencoder, batch, training)
    if not isinstance(posterior, Factorised):
        raise UserError("this loss needs a posterior whose dimensions are independent: choose posterior=gaussian")
    return posterior


def reconstruction_term(
    autoencoder: Autoencoder, batch: Batch, likelihood: ImageDistribution, weight: float | None, training: bool
) -> tf.Tensor:
    """Return weight × the mean over the batch of −log p(x|z), or of a pseudo-likelihood's error.

    Without a weight it is the likelihood's own. In training the likelihood may be fitted to the batch first.
    """
    weight = autoencoder.likelihood.weight if weight is None else weight
    if training:
        likelihood = autoencoder.likelihood.fitted(likelihood, batch.images, batch.gather)
    return weight * tf.reduce_mean(likelihood.error(batch.images))


def check_densities(loss: Loss, posterior: Posterior, likelihood: Likelihood) -> None:
    """Refuse a loss that needs the density of a posterior or likelihood without one, or that weighs the likelihood's.

    Raises:
        UserError: they do not fit.
    """
    if loss.needs_density and not posterior.has_density:
        raise UserError("loss takes the posterior's density, and this posterior has none: choose posterior=gaussian")
    if loss.needs_likelihood_density and likelihood.measure is None:
        raise UserError("loss takes −log p(x|z), and this likelihood is no density: choose likelihood=gaussian")
    if likelihood.measure is not None and loss.reconstruction_weight not in (None, 1):
        raise UserError(
            f"loss.reconstruction_weight={loss.reconstruction_weight}: this likelihood is a density, of which the "
            "weight is 1; leave it out, and give loss.kl_weight where there is a KL term"
        )
