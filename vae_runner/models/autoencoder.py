"""An encoder, a posterior and a decoder, put together."""

from typing import Any

import keras
import tensorflow as tf


class Autoencoder:
    """A pair of Keras models and the posterior between them.

    Images are float32 in [0, 1], `[batch, height, width, channels]`; z is float32 `[batch, latent]`.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model, posterior: type[Any]) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior

    @property
    def latent(self) -> int:
        """The number of latent dimensions."""
        return int(self.decoder.input_shape[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return tuple(self.encoder.input_shape[1:])

    @property
    def trainable_variables(self) -> list[Any]:
        """What the optimizer updates: the encoder's variables, then the decoder's."""
        return [*self.encoder.trainable_variables, *self.decoder.trainable_variables]

    def encode(self, images: tf.Tensor, training: bool = False) -> Any:
        """The posterior q(z|x) of a batch of images."""
        return self.posterior.of(self.encoder(images, training=training))

    def decode(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The images, in [0, 1], that the decoder makes of a batch of latents."""
        return self.decoder(z, training=training)

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """The images decoded from the posterior means."""
        return self.decode(self.encode(images).mean)

    def sample(self, n: int, seed: int = 0) -> tf.Tensor:
        """`n` images decoded from draws of the prior N(0, I)."""
        return self.decode(tf.random.stateless_normal([n, self.latent], [seed, 0], alg="philox"))


def to_unit_interval(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return tf.cast(pixels, tf.float32) / 255.0
