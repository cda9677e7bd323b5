"""A variational autoencoder whose reconstructions are compared in the features of a discriminator of images."""

from dataclasses import dataclass, field
from typing import ClassVar

import keras
import tensorflow as tf

from vae_runner.distributions.divergence import kl_divergence
from vae_runner.errors import UserError
from vae_runner.losses import discriminators
from vae_runner.losses.base import AUTOENCODER, DECODER, DISCRIMINATOR, Batch, Loss, posterior_of
from vae_runner.losses.discriminators import FEATURES, LOGIT
from vae_runner.models.autoencoder import Autoencoder


@dataclass(eq=False)
class VaeGan(Loss):
    """VAE/GAN (Larsen et al., 2016, algorithm 1): three players, each with a scalar of its own.

    The encoder, with the prior, minimises kl_weight · KL + features, where features = ½ ‖F(x) − F(x̂)‖² is −log p of a
    Gaussian, up to a constant, of what the discriminator's last convolution F makes of image and reconstruction. The
    decoder minimises feature_weight · features + adversarial, and the discriminator tells images from reconstructions
    and from images decoded from draws of the prior. As everywhere here the adversarial term is the non-saturating one,
    where the paper has its mirror image, and all three are updated in each step: the authors' code lets decoder or
    discriminator rest where one of them is far ahead.
    """

    kl_weight: float = 1.0
    feature_weight: float = 0.1
    discriminator_width: int = 32
    discriminator: keras.Model = field(init=False, repr=False)

    terms: ClassVar = ("kl", "features", "adversarial", "discriminator")
    needs_density: ClassVar = True
    draws: ClassVar = 2  # one of the posterior, and one of the prior

    def check(self, autoencoder: Autoencoder) -> None:
        """Refuse a density: only the image that it shows takes part, and nothing would train the rest.

        Raises:
            UserError: the likelihood is one.
        """
        if autoencoder.likelihood.measure is not None:
            raise UserError("loss=vae_gan compares features, and takes no likelihood's density: choose likelihood=mse")

    def make_opponents(self, autoencoder: Autoencoder) -> None:
        """Make the discriminator."""
        self.discriminator = discriminators.of_images(autoencoder.image_shape, self.discriminator_width)

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Return what encoder, decoder and discriminator train."""
        of_parts = {name: list(part.trainable_variables) for name, part in autoencoder.parts.items()}
        return {
            AUTOENCODER: of_parts["encoder"] + of_parts["posterior"] + of_parts["prior"],
            DECODER: of_parts["decoder"] + of_parts["likelihood"],
            DISCRIMINATOR: self.discriminator.trainable_variables,
        }

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what each player minimises, and the terms, without weights."""
        posterior = posterior_of(autoencoder, batch, training)
        prior = autoencoder.latent_prior(batch.labels)
        z = posterior.sample(batch.noise)
        kl = tf.reduce_mean(kl_divergence(posterior, prior, z))
        reconstructed = autoencoder.decode(z, batch.labels, training).mean
        sampled = autoencoder.decode(prior.sample(batch.noise), batch.labels, training).mean
        said = self.discriminator(tf.concat([batch.images, reconstructed, sampled], axis=0), training=training)
        of_images, of_reconstructions, _ = tf.split(said[FEATURES], 3)
        squares = tf.reduce_sum(tf.math.squared_difference(of_images, of_reconstructions), axis=1)
        features = 0.5 * tf.reduce_mean(squares)
        images = tf.shape(batch.images)[0]
        real, generated = said[LOGIT][:images], said[LOGIT][images:]
        adversarial = discriminators.non_saturating(generated)
        wrong = discriminators.cross_entropy(real, generated)
        losses = {
            AUTOENCODER: self.kl_weight * kl + features,
            DECODER: self.feature_weight * features + adversarial,
            DISCRIMINATOR: wrong,
        }
        return losses, {"kl": kl, "features": features, "adversarial": adversarial, "discriminator": wrong}
