"""One linear map each way: probabilistic PCA, and linear autoencoders."""

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import dense_pixels, heads
from vae_runner.posteriors.base import Posterior


def build(
    image_shape: tuple[int, int, int], latent: int, posterior: Posterior, likelihood: Likelihood
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder and a decoder that are affine maps of pixels and latents.

    With a Gaussian likelihood of one σ, whose mean is not squashed, and a Gaussian posterior the ELBO is greatest at
    probabilistic PCA (Tipping & Bishop, 1999; Lucas et al., 2019, "Don't blame the ELBO!").
    """
    images = keras.Input(image_shape, name="images")
    pixels = keras.layers.Flatten(name="flatten")(images)
    encoder = keras.Model(images, heads(pixels, posterior.parameters((latent,))), name="encoder")

    z = keras.Input(posterior.z_shape((latent,)), name="z")
    decoder = keras.Model(z, dense_pixels(image_shape, likelihood.parameters(image_shape[2]))(z), name="decoder")
    return encoder, decoder
