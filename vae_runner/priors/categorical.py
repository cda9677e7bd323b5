"""All codes equally likely."""

import tensorflow as tf

from vae_runner.distributions.codes import UniformCodes
from vae_runner.errors import UserError
from vae_runner.priors.base import CodeFamily, Encoding, Prior


class Categorical(Prior):
    """p(z) with the same probability for every code of the posterior, at every position by itself."""

    symbol = "uniform codes"
    description = "codes that are all equally likely"

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> UniformCodes:
        """Return the distribution over codes.

        Raises:
            UserError: the posterior has no codes.
        """
        posterior = autoencoder.posterior
        if not isinstance(posterior, CodeFamily):
            raise UserError("prior=categorical needs a posterior of codes: choose posterior=vq, fsq or gumbel")
        return UniformCodes(posterior.positions(autoencoder.latent), posterior.codes, posterior.embed)
