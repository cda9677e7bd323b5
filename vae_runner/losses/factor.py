"""A penalty on what the latent dimensions say about each other, measured by a discriminator."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.divergence import kl_divergence
from vae_runner.losses import discriminators
from vae_runner.losses.adversarial import LatentOpponent
from vae_runner.losses.base import AUTOENCODER, DISCRIMINATOR, Batch, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(eq=False)
class Factor(LatentOpponent):
    """The ELBO's loss + total_correlation_weight · mean D(z) (Kim & Mnih, 2018, equation 2: FactorVAE).

    D is the logit with which a discriminator tells z of the posteriors from z whose dimensions are independent: at its
    optimum log q(z) − Σ log q(z_j), and its mean the total correlation. Independent z are made of the same batch by a
    permutation of each dimension over its images; the paper takes a second batch, which is another pass of the encoder.
    """

    total_correlation_weight: float = 10.0
    discriminator_depth: int = 6

    terms: ClassVar = ("reconstruction", "kl", "total_correlation", "discriminator")
    needs_density: ClassVar = True

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what each player minimises, and the terms: `kl` and `total_correlation` without weights."""
        posterior = posterior_of(autoencoder, batch, training)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        kl = tf.reduce_mean(kl_divergence(posterior, autoencoder.latent_prior(batch.labels), z))
        logit = self.discriminator(z, training=training)
        independent = self.discriminator(independent_dimensions(z, batch), training=training)
        total_correlation = tf.reduce_mean(logit)
        wrong = discriminators.cross_entropy(logit, independent)
        loss = reconstruction + kl + self.total_correlation_weight * total_correlation
        return {AUTOENCODER: loss, DISCRIMINATOR: wrong}, {
            "reconstruction": reconstruction, "kl": kl, "total_correlation": total_correlation, "discriminator": wrong,
        }  # fmt: skip


def independent_dimensions(z: tf.Tensor, batch: Batch) -> tf.Tensor:
    """Return z, `[images, dimensions]`, with each dimension permuted over the images of the batch, without a gradient.

    Every dimension has a permutation of its own, which is drawn for the batch of all replicas.
    """
    keys = batch.gather(batch.noise.uniform(z.shape[1:]))
    every = batch.gather(tf.stop_gradient(z))
    order = tf.argsort(tf.transpose(keys), axis=1)
    permuted = tf.transpose(tf.gather(tf.transpose(every), order, axis=1, batch_dims=1))
    return permuted[batch.first : batch.first + tf.shape(z, tf.int64)[0]]
