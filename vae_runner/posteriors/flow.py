"""What the posteriors that are flows of a Gaussian have in common."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.transformed import Flow, Transformed
from vae_runner.posteriors.base import Posterior, Shape


class FlowPosterior(Posterior):
    """q(z|x) of z = flow(z₀), z₀ ~ N(base_mean, diag(exp(base_log_var))) (Rezende & Mohamed, 2015)."""

    has_density = True

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean and the logarithm of a variance for each dimension, and what the flow needs."""
        return {"base_mean": latent, "base_log_var": latent, **self.flow_parameters(latent[0])}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Transformed:
        """Return the transformed Gaussians of a batch."""
        base = DiagonalGaussian(parameters["base_mean"], parameters["base_log_var"])
        return Transformed(base, self.flow(parameters))

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return by name the shapes of what an encoder must give of the flow for one image."""
        raise NotImplementedError

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> Flow:
        """Return the flows of a batch, which parameters `[batch, …]` describe."""
        raise NotImplementedError
