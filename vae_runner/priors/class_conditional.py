"""A Gaussian for each class, trained with the networks."""

import math

import keras
import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.priors.base import Encoding, Prior


class ClassConditional(Prior, keras.layers.Layer):
    """p(z|y) = N(m_y, diag(s_y²)) of class y, beginning with N(0, I) (Sohn et al., 2015, with the class as the input).

    With it the ELBO is a bound on log p(x|y).
    """

    symbol = "N(m, s²) of its class"
    needs_labels = True

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create a mean and the logarithms of the variances for each class."""
        shape = (math.prod(latent_shape), classes)
        self._means = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="means")
        self._log_vars = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="log_vars")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> DiagonalGaussian:
        """Return a Gaussian for each label, int64 `[batch]`."""
        # Gathered along the first axis, the weights would get a gradient of one slice for each label, and an optimizer
        # would take two slices of the same class for two classes.
        means, log_vars = (tf.gather(weight.value, labels, axis=1) for weight in (self._means, self._log_vars))
        return DiagonalGaussian(tf.transpose(means), tf.transpose(log_vars))
