"""Bounds on log p(x) that take several draws from each image's posterior."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise
from vae_runner.errors import UserError
from vae_runner.losses.base import AUTOENCODER, DECODER, Batch, Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import batch_normalizations

log = logging.getLogger(__name__)

WEIGHT_FLOOR = 1e-30  # of a draw in a denominator; a square of so small a number is 0 in float32


class Weights(NamedTuple):
    """The importance weights of draws z_k of q(z|x): log w = log p(x|z) + log p(z) − log q(z|x), in nats."""

    log_likelihood: tf.Tensor  # each float32 [batch, samples]
    log_prior: tf.Tensor
    log_posterior: tf.Tensor

    @property
    def log_w(self) -> tf.Tensor:
        """Return their logarithms, `[batch, samples]`."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    def terms(self) -> dict[str, tf.Tensor]:
        """Return the ELBO's two terms, means over images and draws."""
        kl = tf.reduce_mean(self.log_posterior - self.log_prior)
        return {"reconstruction": -tf.reduce_mean(self.log_likelihood), "kl": kl}


class GradientScale:
    """An identity whose gradient is multiplied by `factor`, which is assigned after the forward pass."""

    def __init__(self) -> None:
        self.factor = tf.constant(1.0)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Return `values`."""

        @tf.custom_gradient
        def identity(values: tf.Tensor) -> tuple[tf.Tensor, object]:
            return tf.identity(values), lambda upstream: upstream * self.factor

        return identity(values)


class _SeveralDraws:
    """Noise for images each of which is repeated `samples` times in a row."""

    def __init__(self, noise: Noise, samples: int) -> None:
        self._noise, self._samples = noise, samples

    def normal(self, shape: Sequence[int]) -> tf.Tensor:
        """Return standard normal numbers, float32 `[images · samples, *shape]`."""
        return tf.reshape(self._noise.normal([self._samples, *shape]), [-1, *shape])

    def uniform(self, shape: Sequence[int]) -> tf.Tensor:
        """Return uniform numbers in [0, 1), float32 `[images · samples, *shape]`."""
        return tf.reshape(self._noise.uniform([self._samples, *shape]), [-1, *shape])


def warn_of_mixed_draws(autoencoder: Autoencoder, samples: int) -> None:
    """Warn where batch normalisation in the decoder takes its moments over several draws of an image."""
    if samples > 1 and batch_normalizations(autoencoder.decoder):
        log.warning(
            "Batch normalisation in the decoder mixes the %d draws of each image in its moments, so that training has "
            "other likelihoods than evaluation: model.normalization=layer or none keeps the draws apart",
            samples,
        )


def importance_weights(
    autoencoder: Autoencoder,
    batch: Batch,
    samples: int,
    training: bool,
    *,
    without_score: bool = False,
    scale: GradientScale | None = None,
) -> Weights:
    """Return the importance weights of `samples` draws for each image, which is encoded once.

    With `without_score` the gradient of log q(z|x) reaches the weights of encoder and posterior through z alone, not
    through the parameters of q (Roeder et al., 2017). `scale` is applied to the draws.
    """

    def repeated(values: tf.Tensor) -> tf.Tensor:
        return tf.repeat(values, samples, axis=0)

    parameters = autoencoder.parameters(batch.images, batch.labels, training)
    parameters = {name: repeated(value) for name, value in parameters.items()}
    labels = None if batch.labels is None else repeated(batch.labels)
    posterior = autoencoder.posterior.distribution(parameters)
    if training:
        posterior = autoencoder.posterior.fitted(posterior, batch.noise, batch.epoch, batch.gather)
    z = posterior.sample(_SeveralDraws(batch.noise, samples))
    if scale is not None:
        z = scale(z)
    likelihood, images = autoencoder.decode(z, labels, training), repeated(batch.images)

    def gather_means(values: tf.Tensor) -> tf.Tensor:
        return batch.gather(tf.reduce_mean(tf.reshape(values, [-1, samples]), axis=1))

    if training:
        likelihood = autoencoder.likelihood.fitted(likelihood, images, gather_means)
    log_probs = (
        -likelihood.error(images),
        autoencoder.latent_prior(labels).log_prob(z),
        _log_prob_without_score(posterior, z) if without_score else posterior.log_prob(z),
    )
    return Weights(*(tf.reshape(log_prob, [-1, samples]) for log_prob in log_probs))


def _log_prob_without_score(distribution: Distribution, z: tf.Tensor) -> tf.Tensor:
    """Return log_prob(z), `[batch]`, with a gradient with respect to z alone, not to the distribution's parameters."""
    fixed = tf.stop_gradient(z)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fixed)
        log_prob = distribution.log_prob(fixed)
    by_z = tf.stop_gradient(tape.gradient(log_prob, fixed))
    return tf.stop_gradient(log_prob) + tf.reduce_sum(by_z * (z - fixed), axis=1)


@dataclass(frozen=True)
class ImportanceWeighted(Loss):
    """−E log 1/K Σ w_k over K draws (Burda et al., 2016, equation 8).

    With `groups` G it is the mean of G such bounds, each of its own draws (Rainforth et al., 2018: MIWAE).
    With `elbo_weight` β it is β · ELBO + (1 − β) · that bound (CIWAE). `gradient` names the estimator of its gradient:
    "iwae" is that of the bound itself; "stl" leaves out what the encoder's parameters do to log q(z|x) (Roeder et al.,
    2017), which for one group of one draw, or an elbo_weight of 1, has the same mean; "dreg" has the bound's mean and
    does not drown in noise as K grows (Tucker et al., 2019, equation 8).
    With `partial` that mean of bounds trains encoder and posterior alone, and the one bound of all G · K draws trains
    decoder, likelihood and prior (PIWAE).
    """

    samples: int = 5
    groups: int = 1
    elbo_weight: float = 0.0
    gradient: str = "iwae"
    partial: bool = False

    terms: ClassVar = ("reconstruction", "kl")
    needs_density: ClassVar = True
    needs_likelihood_density: ClassVar = True

    def check(self, autoencoder: Autoencoder) -> None:
        """Refuse a gradient estimator that the posterior's density does not allow; warn of a decoder that mixes draws.

        Raises:
            UserError: the estimator needs log q(z|x) at any z, and the posterior knows it at its own draws only.
        """
        if self.gradient != "iwae" and not autoencoder.posterior.has_density_everywhere:
            raise UserError(
                f"loss.gradient={self.gradient} needs the posterior's density as a function of z, which "
                f"{type(autoencoder.posterior).__name__} has at its own draws only: choose loss.gradient=iwae, or a "
                "posterior with an inverse like householder or real_nvp"
            )
        warn_of_mixed_draws(autoencoder, self.draws)

    @property
    def draws(self) -> int:
        """Return how many z of each image are decoded."""
        return self.samples * self.groups

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Return the autoencoder's variables; with `partial`, those of p(z) and p(x|z) belong to a second player."""
        if not self.partial:
            return super().players(autoencoder)
        of_parts = {name: part.trainable_variables for name, part in autoencoder.parts.items()}
        return {
            AUTOENCODER: [*of_parts["encoder"], *of_parts["posterior"]],
            DECODER: [*of_parts["decoder"], *of_parts["prior"], *of_parts["likelihood"]],
        }

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor | dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return the negative bound, or that of each player where there are two, and the ELBO's terms.

        The terms are means over the draws.
        """
        scale = GradientScale() if self.gradient == "dreg" else None
        weights = importance_weights(
            autoencoder, batch, self.draws, training,
            without_score=self.gradient != "iwae", scale=scale,
        )  # fmt: skip
        log_w = tf.reshape(weights.log_w, [-1, self.groups, self.samples])
        bound = self._bound(log_w)
        if scale is not None:
            weights_in_group = tf.stop_gradient(tf.nn.softmax(log_w, axis=2))
            constant = self.elbo_weight / self.samples
            by_log_w = constant + (1 - self.elbo_weight) * weights_in_group
            # The encoder's gradient comes through z alone. Squared weights there make up for the missing score.
            by_z = constant + (1 - self.elbo_weight) * tf.square(weights_in_group)
            # Not divide_no_nan: under XLA on a GPU that has given NaN, presumably for a subnormal weight, which is not
            # 0 where it is compared, and is where it divides.
            scale.factor = tf.reshape(by_z / tf.maximum(by_log_w, WEIGHT_FLOOR), [-1, 1])
            surrogate = tf.reduce_mean(tf.reduce_sum(by_log_w * log_w, axis=2))
            bound = tf.stop_gradient(bound - surrogate) + surrogate
        if self.partial:
            of_all_draws = self._bound(weights.log_w[:, tf.newaxis])
            return {AUTOENCODER: -bound, DECODER: -of_all_draws}, weights.terms()
        return -bound, weights.terms()

    def _bound(self, log_w: tf.Tensor) -> tf.Tensor:
        """Return the mean over images and groups of the bound of `log_w`, `[batch, groups, draws of a group]`."""
        importance_weighted = tf.reduce_logsumexp(log_w, axis=2) - math.log(log_w.shape[2])
        elbo = tf.reduce_mean(log_w, axis=2)
        return tf.reduce_mean(self.elbo_weight * elbo + (1 - self.elbo_weight) * importance_weighted)
