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

GRADIENT_SCALE = 1024.0  # of what passes through the discriminator, where float16 makes 0 of small numbers


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
        of_images = self.discriminator(batch.images, training=training)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([reconstructed, sampled])
            of_reconstructions, of_samples = (
                self.discriminator(x, training=training) for x in (reconstructed, sampled)
            )
            differences = tf.math.squared_difference(of_images[FEATURES], of_reconstructions[FEATURES])
            features = 0.5 * tf.reduce_mean(tf.reduce_sum(differences, axis=1))
            generated = tf.concat([of_reconstructions[LOGIT], of_samples[LOGIT]], axis=0)
            adversarial = discriminators.non_saturating(generated)
        wrong = discriminators.cross_entropy(of_images[LOGIT], generated)
        terms = {"kl": kl, "features": features, "adversarial": adversarial, "discriminator": wrong}
        if training:
            # Encoder and decoder both ask for the gradient through the discriminator, which is most of a step.
            scale = tf.constant(GRADIENT_SCALE)
            by_features = tape.gradient(features, [reconstructed], output_gradients=scale)
            by_logits = tape.gradient(adversarial, [reconstructed, sampled], output_gradients=scale)
            features = _with_gradients(features, [reconstructed], by_features)
            adversarial = _with_gradients(adversarial, [reconstructed, sampled], by_logits)
        losses = {
            AUTOENCODER: self.kl_weight * kl + features,
            DECODER: self.feature_weight * features + adversarial,
            DISCRIMINATOR: wrong,
        }
        return losses, terms


def _with_gradients(value: tf.Tensor, images: list[tf.Tensor], scaled: list[tf.Tensor]) -> tf.Tensor:
    """Return a scalar of this value whose gradients by images, scaled here, are known, and are not computed again."""
    zeros = (
        tf.reduce_sum(tf.stop_gradient(gradient) / GRADIENT_SCALE * (x - tf.stop_gradient(x)))
        for x, gradient in zip(images, scaled, strict=True)
    )
    return tf.add_n([tf.stop_gradient(value), *zeros])
