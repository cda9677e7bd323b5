"""All codes equally likely."""

import tensorflow as tf

from vae_runner.distributions.codes import UniformCodes
from vae_runner.priors.base import Encoding, Prior, code_family


class Categorical(Prior):
    """p(z) with the same probability for every code of the posterior, at every position by itself."""

    symbol = "uniform codes"
    description = "codes that are all equally likely"

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> UniformCodes:
        """Return the distribution over codes.

        Raises:
            UserError: the posterior has no codes.
        """
        posterior = code_family(autoencoder.posterior, "categorical")
        return UniformCodes(posterior.positions(autoencoder.latent), posterior.codes, posterior.embed)
