"""A logistic distribution for each pixel, cut into 256 levels."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import discretized
from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR, PixelScale


class DiscretizedLogistic(PixelScale):
    """Masses of the levels between whose edges a logistic distribution is cut (Kingma et al., 2016)."""

    measure = "levels"

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> discretized.DiscretizedLogistic:
        """Return the distributions of a batch's pixels."""
        log_scale = soft_floor(parameters["log_scale"], LOG_SCALE_FLOOR)
        return discretized.DiscretizedLogistic(parameters["mean"], log_scale)
