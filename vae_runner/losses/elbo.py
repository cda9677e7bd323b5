"""The evidence lower bound: the loss of a variational autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.divergence import kl_by_dimension, kl_divergence
from vae_runner.errors import UserError
from vae_runner.losses.base import Batch, Loss, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Elbo(Loss):
    """−log p(x|z) + kl_weight · KL(q(z|x) ‖ p(z)): the negative ELBO (Kingma & Welling, 2014, equation 3).

    A `kl_weight` other than 1 makes it a β-VAE (Higgins et al., 2017, equation 4). With a warm-up the weight grows
    linearly from 0 over the first `kl_warmup_epochs` epochs (Sønderby et al., 2016: warm-up), and again every
    `kl_cycle_epochs` (Fu et al., 2019). With `free_bits` λ the loss takes Σ max(λ, KL of a dimension, mean over the
    batch) for the KL term (Kingma et al., 2016, appendix C.8). With a `kl_capacity` C it takes |KL − C| of the batch's
    mean, C growing linearly from 0 over `kl_capacity_epochs` (Burgess et al., 2018, equation 8).
    """

    reconstruction_weight: float | None = None
    kl_weight: float = 1.0
    kl_warmup_epochs: float = 0.0
    kl_cycle_epochs: float = 0.0
    free_bits: float = 0.0
    kl_capacity: float | None = None
    kl_capacity_epochs: float = 0.0

    terms: ClassVar = ("reconstruction", "kl")
    needs_density: ClassVar = True

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `reconstruction` with its weight, `kl` as it is."""
        posterior = posterior_of(autoencoder, batch, training)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        prior = autoencoder.latent_prior(batch.labels)
        kl_of_images = kl_divergence(posterior, prior, z)
        kl = counted = tf.reduce_mean(kl_of_images)
        if self.free_bits:
            by_dimension = tf.reduce_mean(batch.gather(kl_by_dimension(posterior, prior)), axis=0)
            counted = tf.reduce_sum(tf.maximum(by_dimension, self.free_bits))
        if self.kl_capacity is not None:
            counted = tf.abs(tf.reduce_mean(batch.gather(kl_of_images)) - self._capacity_at(batch.epoch))
        loss = reconstruction + self.kl_weight_at(batch.epoch) * counted
        return loss, {"reconstruction": reconstruction, "kl": kl}

    def check(self, autoencoder: Autoencoder) -> None:
        """Refuse free bits where the KL divergence has no closed form for each latent dimension.

        Raises:
            UserError: the posterior and the prior have none, and `free_bits` is above 0.
        """
        closed_forms: list[object] = []

        def trace() -> None:
            images, labels = tf.zeros([1, *autoencoder.image_shape]), tf.zeros([1], tf.int64)
            posterior = autoencoder.encode(images, labels)
            closed_forms.append(kl_by_dimension(posterior, autoencoder.latent_prior(labels)))

        if self.free_bits:
            # Tracing shows the distributions' types and computes nothing.
            tf.function(trace, autograph=False).get_concrete_function()
            if None in closed_forms:
                raise UserError(
                    f"loss.free_bits={self.free_bits} needs a closed KL divergence of each latent dimension: choose "
                    "posterior=gaussian and prior=normal, or leave it out"
                )

    def is_settled(self, epoch: int) -> bool:
        """Return whether the KL term has its whole weight at the end of this epoch, and all of its capacity."""
        warm = epoch if not self.kl_cycle_epochs else epoch % self.kl_cycle_epochs or self.kl_cycle_epochs
        return warm >= self.kl_warmup_epochs and epoch >= self.kl_capacity_epochs

    def kl_weight_at(self, epoch: tf.Tensor) -> tf.Tensor:
        """Return the KL term's weight after `epoch` epochs."""
        if self.kl_warmup_epochs == 0:
            return tf.constant(self.kl_weight, tf.float32)
        if self.kl_cycle_epochs:
            # After training `epoch` is infinite, and the warm-up is over.
            epoch = tf.where(tf.math.is_inf(epoch), epoch, tf.math.floormod(epoch, self.kl_cycle_epochs))
        return self.kl_weight * tf.minimum(epoch / self.kl_warmup_epochs, 1.0)

    def _capacity_at(self, epoch: tf.Tensor) -> tf.Tensor:
        capacity = tf.constant(self.kl_capacity, tf.float32)
        return capacity * tf.minimum(epoch / self.kl_capacity_epochs, 1.0) if self.kl_capacity_epochs else capacity
