"""A Gaussian with a mean and a variance for each latent dimension."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.posteriors.base import Posterior, Shape


class Gaussian(Posterior):
    """q(z|x) = N(mean, diag(exp(log_var))) (Kingma & Welling, 2014, section 3)."""

    has_density = True

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean and the logarithm of a variance for each dimension."""
        return {"mean": latent, "log_var": latent}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> DiagonalGaussian:
        """Return the Gaussians of a batch."""
        return DiagonalGaussian(**parameters)
