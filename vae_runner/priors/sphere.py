"""The uniform distribution on the sphere."""

from typing import Any

from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.priors.base import Prior


class Sphere(Prior):
    """p(z) uniform on the unit sphere."""

    symbol = "uniform on the sphere"

    def distribution(self, autoencoder: Any, labels: Any = None) -> UniformOnSphere:
        """Return the uniform distribution in the coordinates of z."""
        return UniformOnSphere(autoencoder.latent)
