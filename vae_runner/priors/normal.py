"""The standard normal distribution."""

import tensorflow as tf

from vae_runner.distributions.gaussian import StandardNormal
from vae_runner.priors.base import Encoding, Prior


class Normal(Prior):
    """p(z) = N(0, I)."""

    symbol = "N(0, I)"
    description = "the standard normal"

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> StandardNormal:
        """Return N(0, I) in the dimensions of z."""
        return StandardNormal(autoencoder.latent)
