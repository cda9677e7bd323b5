"""A Gaussian whose mean and variances are trained."""

import keras
import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.priors.base import Encoding, Prior


class LearnedNormal(Prior, keras.layers.Layer):
    """p(z) = N(m, diag(s²)), beginning with N(0, I)."""

    symbol = "N(m, s²)"

    def create_weights(self, image_shape: tuple[int, int, int], latent: int, classes: int) -> None:
        """Create the mean and the logarithms of the variances."""
        self._mean = self.add_weight(shape=(1, latent), initializer="zeros", dtype="float32", name="mean")
        self._log_var = self.add_weight(shape=(1, latent), initializer="zeros", dtype="float32", name="log_var")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> DiagonalGaussian:
        """Return the Gaussian: its mean and log_var are `[1, latent]`."""
        return DiagonalGaussian(self._mean.value, self._log_var.value)
