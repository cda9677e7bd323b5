"""A mixture of Gaussians, trained with the networks."""

import math

import keras
import tensorflow as tf

from vae_runner.distributions.mixture import GaussianMixture
from vae_runner.distributions.scale import soft_floor
from vae_runner.priors.base import Encoding, Prior

LOG_VAR_FLOOR = -8.0  # without one, a component could shrink to a point of infinite density


class Mixture(Prior, keras.layers.Layer):
    """p(z) = Σ weight · N(mean, diag(var)) over `components`, whose means begin apart, as draws of N(0, I)."""

    symbol = "mixture"

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create logits, means, and the logarithms of the variances."""
        shape = (self.components, math.prod(latent_shape))
        self._logits = self.add_weight(shape=shape[:1], initializer="zeros", dtype="float32", name="logits")
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self._means = self.add_weight(shape=shape, initializer=normal, dtype="float32", name="means")
        self._log_vars = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="log_vars")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> GaussianMixture:
        """Return the mixture."""
        return GaussianMixture(self._logits.value, self._means.value, soft_floor(self._log_vars.value, LOG_VAR_FLOOR))
