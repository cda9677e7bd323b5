"""A reconstruction, and a discriminator of patches that asks for its details."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from vae_runner.config.composition import CLASSIFIER
from vae_runner.datasets.binarization import encoded_training_images
from vae_runner.datasets.dataset import Dataset
from vae_runner.distributions.base import Distribution
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.errors import UserError
from vae_runner.losses import discriminators
from vae_runner.losses.base import AUTOENCODER, DISCRIMINATOR, Batch, Loss, posterior_of, reconstruction_term
from vae_runner.losses.perceptual import KEY, PerceptualError
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.features import classifier_features, random_features, read_network
from vae_runner.models.output_bias import output_layer

log = logging.getLogger(__name__)

NEAR_ZERO, LARGEST_RATIO = 1e-6, 1e4


@dataclass(eq=False)
class PatchGan(Loss):
    """reconstruction + kl_weight · KL + perceptual_weight · perceptual + adversarial_weight · adversarial.

    The adversarial term is of a discriminator of an image's patches (Isola et al., 2017: PatchGAN), which is trained
    and counts from step `adversarial_from` on. It counts in training alone: in an evaluation the loss is without it, so
    that epochs before and after the opponent begins can be compared. With `weight_by_gradients` its weight is
    multiplied by the ratio ‖∂ (reconstruction + perceptual) / ∂ w‖ / ‖∂ adversarial / ∂ w‖, where w are the kernels of
    the decoder's last layers on which both depend (Esser et al., 2021, equation 7: VQGAN). The perceptual term is an
    error in features of the Keras model in the file `perceptual_model`, or of a classifier of the labels, once for each
    pixel and channel, as in the authors' code. A kl_weight of about 1e-6 makes it a KL autoencoder (Rombach et al.,
    2022).
    """

    reconstruction_weight: float | None = None
    kl_weight: float = 0.0
    adversarial: str = "hinge"
    adversarial_weight: float = 0.5
    adversarial_from: int = 0
    weight_by_gradients: bool = True
    discriminator_width: int = 64
    discriminator_depth: int = 3
    perceptual_model: str | None = None
    perceptual_layers: str = "all"
    perceptual_weight: float = 1.0
    discriminator: keras.Model = field(init=False, repr=False)
    perceptual_error: PerceptualError | None = field(init=False, repr=False, default=None)

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of its terms: those of z only where they have a weight, `perceptual` with a model."""
        optional = {"perceptual": self.perceptual_model, "gradient_ratio": self.weight_by_gradients}
        given = (name for name, value in optional.items() if value)
        return ("reconstruction", *self.latent_terms, *given, "adversarial", "discriminator")

    @property
    def needs_density(self) -> bool:
        """Return whether it takes the KL divergence."""
        return self.kl_weight != 0

    @property
    def latent_terms(self) -> tuple[str, ...]:
        """Return the names of the terms of z."""
        return ("kl",) if self.kl_weight else ()

    def latent_loss(
        self, autoencoder: Autoencoder, batch: Batch, posterior: Distribution, z: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the weighted sum of the terms of z, a scalar, and these without their weights."""
        if not self.kl_weight:
            return tf.constant(0.0), {}
        kl = tf.reduce_mean(kl_divergence(posterior, autoencoder.latent_prior(batch.labels), z))
        return self.kl_weight * kl, {"kl": kl}

    def make_opponents(self, autoencoder: Autoencoder) -> None:
        """Make the discriminator, which is the second player."""
        self.discriminator = discriminators.of_patches(
            autoencoder.image_shape, self.discriminator_width, self.discriminator_depth
        )

    def check_steps(self, steps: int) -> None:
        """Warn of a discriminator that never begins."""
        if self.adversarial_from >= steps:
            log.warning(
                f"The run takes {steps:,} steps, and the discriminator begins at {self.adversarial_from:,}: it is not "
                "trained at all; a smaller loss.adversarial_from lets it begin earlier"
            )

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse images without the labels that the perceptual term's classifier needs."""
        if self.perceptual_model == CLASSIFIER and not dataset.classes:
            raise UserError(
                f"loss.{KEY}={CLASSIFIER} needs labels, and the images have none: give each split labels "
                "(dataset.labels=folders where sub-folders are classes), or a .keras file"
            )
        if self.perceptual_model == CLASSIFIER and dataset.classes < 2:
            raise UserError(f"loss.{KEY}={CLASSIFIER} needs two classes, and all images are of one: give a .keras file")

    def prepare(self, dataset: Dataset, seed: int) -> None:
        """Train the perceptual term's classifier on the training images, and log how well it does on test images."""
        if self.prepared is None:
            return
        log.info("Perceptual model: training a classifier of the labels, before all else")
        train, test = encoded_training_images(dataset), dataset.test
        assert train.labels is not None
        assert test.labels is not None
        # Not the seed itself: an evaluation with the same one would compare samples in the features of this network.
        own_seed = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
        trained = classifier_features(train.images, train.labels, test.images, test.labels, seed=own_seed)
        self.prepared.set_weights(trained.network.get_weights())
        log.info("Perceptual model: it is right about %.1f %% of the test images", 100 * (trained.accuracy or 0))

    @property
    def prepared(self) -> keras.Model | None:
        """Return the network of the perceptual term where it is a classifier."""
        error = self.perceptual_error
        return error.network if error is not None and self.perceptual_model == CLASSIFIER else None

    @property
    def frozen(self) -> dict[str, str]:
        """Return the hash of the perceptual term's network."""
        return {KEY: self.perceptual_error.weights_hash} if self.perceptual_error else {}

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Return what each player trains, and make or read the network of the perceptual term.

        Raises:
            UserError: there is no such network in the file, or it does not take such images.
        """
        if self.perceptual_model is not None:
            network = (
                random_features(autoencoder.image_shape).network
                if self.perceptual_model == CLASSIFIER
                else read_network(f"loss.{KEY}", self.perceptual_model, autoencoder.image_shape)
            )
            network.trainable = False
            self.perceptual_error = PerceptualError(network, self.perceptual_layers)
        return {**super().players(autoencoder), DISCRIMINATOR: self.discriminator.trainable_variables}

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Return what each player minimises, and the terms: all but `reconstruction` without their weights.

        `gradient_ratio` is that of the gradients' norms.
        """
        posterior = posterior_of(autoencoder, batch, training)
        z = posterior.sample(batch.noise)
        of_latents, terms = self.latent_loss(autoencoder, batch, posterior, z)
        kernels = last_kernels(autoencoder)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            likelihood = autoencoder.decode(z, batch.labels, training)
            error = reconstruction = reconstruction_term(
                autoencoder, batch, likelihood, self.reconstruction_weight, training
            )
            if self.perceptual_error is not None:
                terms["perceptual"] = self.perceptual_error(batch.images, likelihood.mean)
                # A reconstruction term is a sum over pixels and channels, and the authors add this one to each of them.
                error += math.prod(autoencoder.image_shape) * self.perceptual_weight * terms["perceptual"]
            generated = self.discriminator(likelihood.mean, training=training)
            is_hinge = self.adversarial == "hinge"
            # Where the discriminator minimises the hinge loss, its opponent maximises the logit itself.
            adversarial = -tf.reduce_mean(generated) if is_hinge else discriminators.non_saturating(generated)
        real = self.discriminator(batch.images, training=training)
        wrong = (discriminators.hinge if is_hinge else discriminators.cross_entropy)(real, generated)
        weight = tf.constant(self.adversarial_weight, tf.float32)
        if self.weight_by_gradients:
            pairs = zip(tape.gradient(error, kernels), tape.gradient(adversarial, kernels), strict=True)
            # Scales may have layers of their own, which images do not depend on: there is nothing to be balanced there.
            both = [list(map(batch.average, pair)) for pair in pairs if not any(of is None for of in pair)]
            terms["gradient_ratio"] = norm_ratio(*zip(*both, strict=True))
            weight *= terms["gradient_ratio"]
        # Until then all gradients of the discriminator are 0, and optimizers without weight decay leave it as it is.
        begun = tf.cast(batch.step >= self.adversarial_from, tf.float32)
        loss = error + of_latents
        # The logits of an opponent that is not trained say nothing, and those of one that is depend on its strength: a
        # loss with them would not choose the best epoch.
        if training:
            loss += begun * weight * adversarial
        terms |= {"reconstruction": reconstruction, "adversarial": adversarial, "discriminator": wrong}
        return {AUTOENCODER: loss, DISCRIMINATOR: begun * wrong}, terms


def last_kernels(autoencoder: Autoencoder) -> list[tf.Tensor]:
    """Return the kernels of the layers that make the likelihood's parameters, or where none is found the last one."""
    decoder = autoencoder.decoder
    layers = [output_layer(decoder, name) for name in autoencoder.likelihood.parameters(autoencoder.image_shape[2])]
    found = [v for layer in layers if layer is not None for v in layer.trainable_variables if len(v.shape) > 1]
    kernels = found or [v for v in decoder.trainable_variables if len(v.shape) > 1][-1:]
    return [kernel.value for kernel in {id(kernel): kernel for kernel in kernels}.values()]


def norm_ratio(first: Sequence[tf.Tensor], second: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the norm of one gradient in units of another's, at most 10⁴, as a constant: a scalar.

    Each is that of several variables, of all of which it is the norm.
    """
    one, other = (tf.linalg.global_norm([tf.cast(part, tf.float32) for part in of]) for of in (first, second))
    return tf.stop_gradient(tf.clip_by_value(one / (other + NEAR_ZERO), 0.0, LARGEST_RATIO))
