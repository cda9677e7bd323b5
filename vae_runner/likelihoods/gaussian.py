"""A Gaussian for each pixel, with one standard deviation for all."""

import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.likelihoods.location_scale import SharedScale


class Gaussian(SharedScale):
    """p(x|z) = N(mean, σ² I), σ fixed, learned with the networks, or optimal (Rybkin et al., 2021: σ-VAE)."""

    power = 2

    def with_scale(self, mean: tf.Tensor, log_scale: tf.Tensor) -> DiagonalGaussian:
        """Return the Gaussians of a batch."""
        return DiagonalGaussian(mean, 2 * log_scale)
