"""Dense layers only."""

from collections.abc import Sequence

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import activation as activation_layer
from vae_runner.models.layers import dense_pixels, heads, image_inputs, latent_inputs
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
    widths: Sequence[int] | None = None,
    normalization: str = "none",
    batch_norm_momentum: float = 0.9,
    activation: str = "leaky_relu",
    leaky_relu_slope: float = 0.2,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder of `depth` hidden layers of `width` units, or of these `widths`, and the mirroring decoder.

    With `classes` both networks take labels too.
    """
    widths = [width] * depth if widths is None else list(widths)

    def hidden(x: keras.KerasTensor, widths: Sequence[int]) -> keras.KerasTensor:
        for i, units in enumerate(widths, start=1):
            x = keras.layers.Dense(units, use_bias=normalization != "batch", name=f"dense_{i}")(x)
            for layer in normalization_layers(normalization, batch_norm_momentum, f"norm_{i}"):
                x = layer(x)
            x = activation_layer(activation, leaky_relu_slope, f"{i}")(x)
        return x

    inputs, x = image_inputs(image_shape, classes, flat=True)
    encoder = keras.Model(inputs, heads(hidden(x, widths), posterior.parameters((latent,))), name="encoder")

    # What makes the pixels is constructed first: layers draw their first weights in the order of their construction,
    # and a seed is to mean the same network in every version.
    pixels = dense_pixels(image_shape, likelihood.parameters(image_shape[2]))
    inputs, x = latent_inputs(posterior.z_shape((latent,)), classes)
    decoder = keras.Model(inputs, pixels(hidden(x, widths[::-1])), name="decoder")
    return encoder, decoder
