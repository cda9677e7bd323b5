"""A Gaussian whose mean and variances are trained."""

import math

import keras
import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.priors.base import Encoding, Prior


class LearnedNormal(Prior, keras.layers.Layer):
    """p(z) = N(m, diag(s²)), beginning with N(0, I)."""

    symbol = "N(m, s²)"

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the mean and the logarithms of the variances."""
        shape = (1, math.prod(latent_shape))
        self._mean = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="mean")
        self._log_var = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="log_var")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> DiagonalGaussian:
        """Return the Gaussian: its mean and log_var are `[1, latent]`."""
        return DiagonalGaussian(self._mean.value, self._log_var.value)
