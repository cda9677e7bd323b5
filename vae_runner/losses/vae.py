"""The loss of a variational autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.losses import Batch
from vae_runner.losses.terms import mean_squared_error
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Vae:
    """reconstruction + kl_weight · KL: the negative ELBO up to a constant (Kingma & Welling, 2014, equation 3).

    `reconstruction_weight` × mean squared error is −log p(x|z) up to a constant, for a Gaussian likelihood of variance
    (number of pixels) / (2 · reconstruction_weight); so both terms are in nats. A `kl_weight` other than 1 makes it a
    β-VAE (Higgins et al., 2017, equation 4). With a warm-up the weight grows linearly from 0 over the first
    `kl_warmup_epochs` epochs (Bowman et al., 2016, section 3.1).
    """

    reconstruction_weight: float = 1000.0
    kl_weight: float = 1.0
    kl_warmup_epochs: float = 0.0

    terms: ClassVar = ("reconstruction", "kl")

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The scalar to minimise, and its terms: `reconstruction` with its weight, `kl` without."""
        posterior = autoencoder.encode(batch.images, training)
        z = posterior.sample(batch.noise)
        error = mean_squared_error(batch.images, autoencoder.decode(z, training))
        reconstruction = self.reconstruction_weight * tf.reduce_mean(error)
        kl = tf.reduce_mean(tf.reduce_sum(posterior.kl(), axis=1))
        return reconstruction + self.kl_weight_at(batch.epoch) * kl, {
            "reconstruction": reconstruction,
            "kl": kl,
        }

    def kl_weight_at(self, epoch: tf.Tensor) -> tf.Tensor:
        """The KL term's weight when `epoch` epochs are behind."""
        if self.kl_warmup_epochs == 0:
            return tf.constant(self.kl_weight, tf.float32)
        return self.kl_weight * tf.minimum(epoch / self.kl_warmup_epochs, 1.0)
