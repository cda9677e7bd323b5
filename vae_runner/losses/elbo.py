"""The evidence lower bound: the loss of a variational autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.divergence import kl_divergence
from vae_runner.losses.base import Batch, Loss, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Elbo(Loss):
    """−log p(x|z) + kl_weight · KL(q(z|x) ‖ p(z)): the negative ELBO (Kingma & Welling, 2014, equation 3).

    A `kl_weight` other than 1 makes it a β-VAE (Higgins et al., 2017, equation 4). With a warm-up the weight grows
    linearly from 0 over the first `kl_warmup_epochs` epochs (Bowman et al., 2016, section 3.1).
    """

    reconstruction_weight: float | None = None
    kl_weight: float = 1.0
    kl_warmup_epochs: float = 0.0

    terms: ClassVar = ("reconstruction", "kl")
    needs_density: ClassVar = True

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `reconstruction` with its weight, `kl` without."""
        posterior = autoencoder.encode(batch.images, batch.labels, training)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight)
        kl = tf.reduce_mean(kl_divergence(posterior, autoencoder.latent_prior(batch.labels), z))
        return reconstruction + self.kl_weight_at(batch.epoch) * kl, {"reconstruction": reconstruction, "kl": kl}

    def kl_weight_at(self, epoch: tf.Tensor) -> tf.Tensor:
        """Return the KL term's weight when `epoch` epochs are behind."""
        if self.kl_warmup_epochs == 0:
            return tf.constant(self.kl_weight, tf.float32)
        return self.kl_weight * tf.minimum(epoch / self.kl_warmup_epochs, 1.0)
