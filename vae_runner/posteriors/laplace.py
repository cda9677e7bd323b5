"""A Laplace distribution for each latent dimension."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import laplace
from vae_runner.posteriors.base import Posterior, Shape


class Laplace(Posterior):
    """q(z|x) = Π exp(−|z − mean| / b) / 2b."""

    has_density = True

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean and the logarithm of a scale for each dimension."""
        return {"mean": latent, "log_scale": latent}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> laplace.Laplace:
        """Return the distributions of a batch."""
        return laplace.Laplace(**parameters)
