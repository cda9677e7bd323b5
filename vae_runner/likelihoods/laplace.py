"""A Laplace distribution for each pixel, with one scale for all: the density that belongs to absolute errors."""

import tensorflow as tf

from vae_runner.distributions import laplace
from vae_runner.likelihoods.location_scale import SharedScale


class Laplace(SharedScale):
    """p(x|z) = Π exp(−|x − mean| / b) / 2b, b fixed, learned with the networks, or optimal."""

    power = 1

    def with_scale(self, mean: tf.Tensor, log_scale: tf.Tensor) -> laplace.Laplace:
        """Return the distributions of a batch."""
        return laplace.Laplace(mean, log_scale)
