"""A Gaussian for each pixel, cut into 256 levels, so that models of 8-bit images can be compared by log p(x|z)."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import discretized
from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR, PixelScale


class DiscretizedGaussian(PixelScale):
    """Masses of the levels between whose edges a Gaussian is cut (Ho et al., 2020, equation 13)."""

    measure = "levels"

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> discretized.DiscretizedGaussian:
        """Return the distributions of a batch's pixels."""
        log_scale = soft_floor(parameters["log_scale"], LOG_SCALE_FLOOR)
        return discretized.DiscretizedGaussian(parameters["mean"], log_scale)
