"""An encoder, a posterior, a prior, a decoder and a likelihood, put together."""

import math
from dataclasses import dataclass

import keras
import tensorflow as tf

from vae_runner.distributions.base import Distribution, Family, Noise
from vae_runner.errors import UserError, first_line
from vae_runner.likelihoods.base import ImageDistribution, Likelihood
from vae_runner.models.schema import PARTS
from vae_runner.posteriors.base import Posterior
from vae_runner.priors.base import Prior


@dataclass(frozen=True)
class Autoencoder:
    """A variational autoencoder: encode images to q(z|x), decode latents to p(x|z).

    Images are float32 in [0, 1], `[batch, height, width, channels]`; labels, where there are any, int64 `[batch]`; z is
    float32 `[batch, latent]`. The encoder maps images, and the decoder latents, to named parameters; posterior and
    likelihood turn these into distributions. Conditional networks take a second input, the labels, one-hot.

    Networks whose latent is spatial give and take maps `[batch, h, w, …]`. Densities are of vectors all the same: what
    an encoder gives, and z, have the positions of a map row by row, and the channels of a position together.
    """

    encoder: keras.Model
    decoder: keras.Model
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood
    classes: int = 0  # the number of classes, where networks or prior depend on labels; else 0, and labels are ignored
    dimensions: int | None = None  # n of the latent `(n,)` that the posterior is asked for; None: the same as `latent`

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Return the shape of a z in the decoder: `(latent,)`, or height, width and channels of a spatial one."""
        return tuple(self.decoder.inputs[0].shape[1:])

    @property
    def latent(self) -> int:
        """Return the number of latent dimensions."""
        return math.prod(self.latent_shape)

    @property
    def is_spatial(self) -> bool:
        """Return whether the networks give and take maps of latents."""
        return len(self.latent_shape) > 1

    @property
    def latent_size(self) -> str:
        """Return the number of latent dimensions in words, as "2-D", or "7×7×4" of a map."""
        return "×".join(map(str, self.latent_shape)) if self.is_spatial else f"{self.latent}-D"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return height, width and channels."""
        return tuple(self.encoder.inputs[0].shape[1:])

    @property
    def parts(self) -> dict[str, keras.layers.Layer | Family]:
        """Return all that may own variables, by name, in the order of the optimizer's variables."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """Return what the optimizer updates."""
        return [variable for part in self.parts.values() for variable in part.trainable_variables]

    def encode(self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False) -> Distribution:
        """Return the posterior q(z|x) of a batch of images."""
        return self.posterior.distribution(self.parameters(images, labels, training))

    def parameters(
        self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Return the encoder's outputs for a batch of images, from which `posterior.distribution` makes q(z|x)."""
        outputs = dict(self.encoder(self._given(self.encoder, images, labels), training=training))
        if not self.is_spatial:
            return outputs
        shapes = self.posterior.parameters((self.dimensions or self.latent,))
        return {name: tf.reshape(output, [-1, *shapes[name]]) for name, output in outputs.items()}

    def decode(self, z: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False) -> ImageDistribution:
        """Return the likelihood p(x|z) of a batch of latents; its mean is the image to look at."""
        if self.is_spatial:
            z = tf.reshape(z, [-1, *self.latent_shape])
        return self.likelihood.distribution(self.decoder(self._given(self.decoder, z, labels), training=training))

    def latent_prior(self, labels: tf.Tensor | None = None) -> Distribution:
        """Return the prior p(z), or p(z|y) of these labels where it depends on the class."""
        return self.prior.distribution(self, labels)

    def reconstruct(self, images: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        """Return the images decoded from the posterior means."""
        return self.decode(self.encode(images, labels).mean, labels).mean

    def sample(self, noise: Noise, labels: tf.Tensor | None = None) -> tf.Tensor:
        """Return the images decoded from draws of the prior."""
        return self.decode(self.latent_prior(labels).sample(noise), labels).mean

    def _given(self, network: keras.Model, x: tf.Tensor, labels: tf.Tensor | None) -> tf.Tensor | list[tf.Tensor]:
        """Return the inputs of a network: `x`, and where it is conditional the labels, one-hot."""
        return x if len(network.inputs) == 1 else [tf.convert_to_tensor(x), tf.one_hot(labels, self.classes)]

    def image_decoder(self) -> keras.Model:
        """Return a Keras model from latents to images, the likelihood's means, whose saved file needs no code of ours.

        Where the decoder is conditional, it takes the labels too, one-hot. Spatial latents are maps.

        Raises:
            UserError: the likelihood's mean is not written in `keras.ops`, the operations that such a model can hold.
        """
        try:
            images = self.likelihood.distribution(self.decoder.output).mean
            if any(images is output for output in self.decoder.outputs):
                return keras.Model(self.decoder.input, images, name="decoder")
            # The decoder becomes one layer, because operations of the mean may have the same names as layers in it.
            inputs = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], name=x.name), self.decoder.input)
            return keras.Model(inputs, self.likelihood.distribution(self.decoder(inputs)).mean, name="decoder")
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise UserError(
                f"likelihood: the mean of {type(self.likelihood).__name__} cannot be saved in a Keras model "
                f"({first_line(error)}): write it with keras.ops, without tf or NumPy functions"
            ) from error


def to_unit_interval(pixels: tf.Tensor) -> tf.Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return tf.cast(pixels, tf.float32) / 255.0
