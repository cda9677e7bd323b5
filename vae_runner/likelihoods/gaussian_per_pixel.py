"""A Gaussian for each pixel, each with its own standard deviation."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR, PixelScale


class GaussianPerPixel(PixelScale):
    """p(x|z) = N(mean, diag(σ²)) (Kingma & Welling, 2014, appendix C.2)."""

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> DiagonalGaussian:
        """Return the Gaussians of a batch."""
        return DiagonalGaussian(parameters["mean"], 2 * soft_floor(parameters["log_scale"], LOG_SCALE_FLOOR))
