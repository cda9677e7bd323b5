"""The standard normal distribution."""

from typing import Any

from vae_runner.distributions.gaussian import StandardNormal
from vae_runner.priors.base import Prior


class Normal(Prior):
    """p(z) = N(0, I)."""

    symbol = "N(0, I)"

    def distribution(self, autoencoder: Any, labels: Any = None) -> StandardNormal:
        """Return N(0, I) in the dimensions of z."""
        return StandardNormal(autoencoder.latent)
