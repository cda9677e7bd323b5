"""A penalty on how far the covariance of the latents is from the identity."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.divergence import kl_divergence
from vae_runner.losses.base import Batch, Loss, factorised_posterior, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class DisentangledPrior(Loss):
    """The ELBO's loss + λ_od Σ_{i≠j} C_ij² + λ_d Σ (C_ii − 1)² (Kumar et al., 2018: DIP-VAE, equations 6 and 7).

    C is the covariance of the posterior means over the batch; of the second kind ("ii") that of z, to which the
    posteriors' mean variances are added.
    """

    reconstruction_weight: float | None = None
    kl_weight: float = 1.0
    off_diagonal_weight: float = 10.0
    diagonal_weight: float = 100.0
    kind: str = "i"

    terms: ClassVar = ("reconstruction", "kl", "covariance")
    needs_density: ClassVar = True

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `kl` without its weight, `covariance` with both of its own."""
        posterior = factorised_posterior(autoencoder, batch, training)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        kl = tf.reduce_mean(kl_divergence(posterior, autoencoder.latent_prior(batch.labels), z))
        means = batch.gather(posterior.mean)
        centred = means - tf.reduce_mean(means, axis=0)
        covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(means)[0], tf.float32)
        if self.kind == "ii":
            covariance += tf.linalg.diag(tf.reduce_mean(batch.gather(posterior.variance), axis=0))
        diagonal = tf.linalg.diag_part(covariance)
        penalty = self.off_diagonal_weight * (tf.reduce_sum(tf.square(covariance)) - tf.reduce_sum(tf.square(diagonal)))
        penalty += self.diagonal_weight * tf.reduce_sum(tf.square(diagonal - 1))
        terms = {"reconstruction": reconstruction, "kl": kl, "covariance": penalty}
        return reconstruction + self.kl_weight * kl + penalty, terms
