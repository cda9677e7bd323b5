"""A plain autoencoder whose codes a discriminator cannot tell from draws of the prior."""

from dataclasses import dataclass, field
from typing import ClassVar

import keras
import tensorflow as tf

from vae_runner.losses import discriminators
from vae_runner.losses.base import AUTOENCODER, DISCRIMINATOR, Batch, Loss, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(eq=False)
class LatentOpponent(Loss):
    """What losses have in common whose second player is a discriminator of z."""

    reconstruction_weight: float | None = None
    discriminator_width: int = 1000
    discriminator_depth: int = 2
    discriminator: keras.Model = field(init=False, repr=False)

    def make_opponents(self, autoencoder: Autoencoder) -> None:
        """Make the discriminator."""
        self.discriminator = discriminators.of_vectors(
            autoencoder.latent, self.discriminator_width, self.discriminator_depth
        )

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Return what each player trains."""
        return {**super().players(autoencoder), DISCRIMINATOR: self.discriminator.trainable_variables}


@dataclass(eq=False)
class Adversarial(LatentOpponent):
    """reconstruction + adversarial_weight · (−log of how likely a discriminator holds z to be of the prior).

    z is a draw of the posterior, which may be a point (Makhzani et al., 2016: AAE; Tolstikhin et al., 2018: WAE-GAN).
    The discriminator tells draws of the prior from such z.
    """

    adversarial_weight: float = 10.0

    terms: ClassVar = ("reconstruction", "adversarial", "discriminator")

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what each player minimises, and the terms: `adversarial` without its weight."""
        z = posterior_of(autoencoder, batch, training).sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        drawn = autoencoder.latent_prior(batch.labels).sample(batch.noise)
        encoded = self.discriminator(z, training=training)
        adversarial = discriminators.non_saturating(encoded)
        wrong = discriminators.cross_entropy(self.discriminator(drawn, training=training), encoded)
        losses = {AUTOENCODER: reconstruction + self.adversarial_weight * adversarial, DISCRIMINATOR: wrong}
        return losses, {"reconstruction": reconstruction, "adversarial": adversarial, "discriminator": wrong}
