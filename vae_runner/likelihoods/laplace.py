"""A Laplace distribution a pixel, of one scale for all: the density of the mean absolute error."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import laplace
from vae_runner.likelihoods.location_scale import SharedScale


class Laplace(SharedScale):
    """p(x|z) = Π exp(−|x − mean| / b) / 2b, b fixed or learned with the networks."""

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> laplace.Laplace:
        """Return the distributions of a batch's pixels."""
        return laplace.Laplace(parameters["mean"], self.log_scale)
