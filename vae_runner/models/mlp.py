"""Dense layers only."""

import math

import keras

from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.joined import heads
from vae_runner.models.layers import normalization as normalization_layers
from vae_runner.models.posterior import Posterior


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: type[Posterior],
    *,
    depth: int = 2,
    width: int = 512,
    normalization: str = "none",
    batch_norm_momentum: float = 0.9,
    leaky_relu_slope: float = 0.2,
) -> Autoencoder:
    """An encoder of `depth` hidden layers of `width` units, and the decoder that mirrors it."""

    def hidden(x: keras.KerasTensor) -> keras.KerasTensor:
        for i in range(1, depth + 1):
            x = keras.layers.Dense(width, use_bias=normalization != "batch", name=f"dense_{i}")(x)
            for layer in normalization_layers(normalization, batch_norm_momentum, f"norm_{i}"):
                x = layer(x)
            x = keras.layers.LeakyReLU(leaky_relu_slope, name=f"leaky_relu_{i}")(x)
        return x

    images = keras.Input(image_shape, name="images")
    features = hidden(keras.layers.Flatten(name="flatten")(images))
    encoder = keras.Model(images, heads(features, latent, posterior.parameters), name="encoder")

    z = keras.Input((latent,), name="z")
    pixels = keras.layers.Dense(math.prod(image_shape), activation="sigmoid", dtype="float32", name="pixels")(hidden(z))
    decoder = keras.Model(z, keras.layers.Reshape(image_shape, dtype="float32", name="reshape")(pixels), name="decoder")
    return Autoencoder(encoder, decoder, posterior)
