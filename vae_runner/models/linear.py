"""One linear map each way: probabilistic PCA, and linear autoencoders."""

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import dense_pixels, heads, image_inputs, latent_inputs
from vae_runner.posteriors.base import Posterior


def build(
    image_shape: tuple[int, int, int], latent: int, posterior: Posterior, likelihood: Likelihood, *, classes: int = 0
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder and a decoder that are affine maps of pixels and latents.

    With a Gaussian likelihood of one σ, whose mean is not squashed, and a Gaussian posterior the ELBO is greatest at
    probabilistic PCA (Tipping & Bishop, 1999; Lucas et al., 2019, "Don't blame the ELBO!"). With `classes` both
    networks take labels too.
    """
    inputs, x = image_inputs(image_shape, classes, flat=True)
    encoder = keras.Model(inputs, heads(x, posterior.parameters((latent,))), name="encoder")

    inputs, x = latent_inputs(posterior.z_shape((latent,)), classes)
    decoder = keras.Model(inputs, dense_pixels(image_shape, likelihood.parameters(image_shape[2]))(x), name="decoder")
    return encoder, decoder
