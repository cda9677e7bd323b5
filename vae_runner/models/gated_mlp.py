"""Dense layers with gates: the network of the VampPrior's paper (Tomczak & Welling, 2018, section 5)."""

from collections.abc import Sequence

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import dense_pixels, heads, image_inputs, latent_inputs
from vae_runner.posteriors.base import Posterior


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: Posterior,
    likelihood: Likelihood,
    *,
    classes: int = 0,
    depth: int = 2,
    width: int = 300,
    widths: Sequence[int] | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder of `depth` gated layers of `width` units, or of these `widths`, and the mirroring decoder.

    A gated layer is h = (W₁ x + b₁) · σ(W₂ x + b₂), elementwise (Dauphin et al., 2017). With `classes` both
    networks take labels too.
    """
    widths = [width] * depth if widths is None else list(widths)

    def hidden(x: keras.KerasTensor, widths: Sequence[int]) -> keras.KerasTensor:
        for i, units in enumerate(widths, start=1):
            values = keras.layers.Dense(units, name=f"dense_{i}")(x)
            gates = keras.layers.Dense(units, activation="sigmoid", name=f"gate_{i}")(x)
            x = keras.layers.Multiply(name=f"gated_{i}")([values, gates])
        return x

    inputs, x = image_inputs(image_shape, classes, flat=True)
    encoder = keras.Model(inputs, heads(hidden(x, widths), posterior.parameters((latent,))), name="encoder")

    inputs, x = latent_inputs(posterior.z_shape((latent,)), classes)
    pixels = dense_pixels(image_shape, likelihood.parameters(image_shape[2]))
    decoder = keras.Model(inputs, pixels(hidden(x, widths[::-1])), name="decoder")
    return encoder, decoder
