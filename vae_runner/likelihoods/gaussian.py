"""A Gaussian a pixel, of one standard deviation for all."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.likelihoods.location_scale import SharedScale


class Gaussian(SharedScale):
    """p(x|z) = N(mean, σ² I), σ fixed, or learned with the networks (Rybkin et al., 2021: σ-VAE)."""

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> DiagonalGaussian:
        """Return the Gaussians of a batch."""
        return DiagonalGaussian(parameters["mean"], 2 * self.log_scale)
