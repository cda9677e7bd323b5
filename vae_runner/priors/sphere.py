"""The uniform distribution on the sphere."""

import tensorflow as tf

from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.priors.base import Encoding, Prior


class Sphere(Prior):
    """p(z) uniform on the unit sphere."""

    symbol = "uniform on the sphere"

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> UniformOnSphere:
        """Return the uniform distribution in the coordinates of z."""
        return UniformOnSphere(autoencoder.latent)
