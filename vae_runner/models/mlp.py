"""Dense layers only."""

import math

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import heads, image_inputs, latent_inputs
from vae_runner.models.layers import normalization as normalization_layers
from vae_runner.posteriors.base import Posterior


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: Posterior,
    likelihood: Likelihood,
    *,
    classes: int = 0,
    depth: int = 2,
    width: int = 512,
    normalization: str = "none",
    batch_norm_momentum: float = 0.9,
    leaky_relu_slope: float = 0.2,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder of `depth` hidden layers of `width` units, and the decoder that mirrors it.

    With `classes` both take labels too.
    """

    def hidden(x: keras.KerasTensor) -> keras.KerasTensor:
        for i in range(1, depth + 1):
            x = keras.layers.Dense(width, use_bias=normalization != "batch", name=f"dense_{i}")(x)
            for layer in normalization_layers(normalization, batch_norm_momentum, f"norm_{i}"):
                x = layer(x)
            x = keras.layers.LeakyReLU(leaky_relu_slope, name=f"leaky_relu_{i}")(x)
        return x

    inputs, x = image_inputs(image_shape, classes, flat=True)
    encoder = keras.Model(inputs, heads(hidden(x), posterior.parameters((latent,))), name="encoder")

    # What makes the pixels is constructed first: layers draw their first weights in the order of their construction,
    # and a seed is to mean the same network in every version.
    pixels = {
        name: keras.layers.Dense(
            math.prod(image_shape[:2]) * parameter.channels, activation=parameter.activation, dtype="float32",
            name=f"{name}_pixels",
        )
        for name, parameter in sorted(likelihood.parameters(image_shape[2]).items())
    }  # fmt: skip
    inputs, x = latent_inputs(posterior.z_shape((latent,)), classes)
    features = hidden(x)
    shape = (*image_shape[:2], -1)
    outputs = {
        name: keras.layers.Reshape(shape, dtype="float32", name=name)(layer(features)) for name, layer in pixels.items()
    }
    decoder = keras.Model(inputs, outputs, name="decoder")
    return encoder, decoder
