"""A power spherical distribution: latents on a sphere."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import sphere
from vae_runner.posteriors.base import Posterior, Shape


class PowerSpherical(Posterior):
    """q(z|x) ∝ (1 + directionᵀ z)^concentration on the unit sphere (De Cao & Aziz, 2020).

    A latent size of d is the sphere of d dimensions, whose points have d + 1 coordinates.
    """

    has_density = True

    def z_shape(self, latent: Shape) -> Shape:
        """Return the shape of z: one coordinate more than the sphere has dimensions."""
        return (latent[0] + 1,)

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a direction before it is normalised, and a concentration before its softplus."""
        return {"direction": self.z_shape(latent), "concentration": (1,)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> sphere.PowerSpherical:
        """Return the distributions of a batch."""
        concentration = 1 + tf.nn.softplus(parameters["concentration"][:, 0])
        return sphere.PowerSpherical(tf.math.l2_normalize(parameters["direction"], axis=1), concentration)
