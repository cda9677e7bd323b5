"""A Gaussian whose latent dimensions depend on each other."""

from collections.abc import Mapping
from itertools import pairwise

import tensorflow as tf

from vae_runner.distributions import full_gaussian
from vae_runner.distributions.matrices import with_diagonal
from vae_runner.posteriors.base import Posterior, Shape

SMALLEST_DEVIATION = 1e-5  # on the diagonal of L, which must be positive


class FullGaussian(Posterior):
    """q(z|x) = N(mean, L Lᵀ), L lower triangular (Kingma & Welling, 2019, section 2.5.1).

    The encoder gives latent · (latent + 1) / 2 numbers for L.
    """

    has_density = True

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean for each dimension, and the entries of L row by row, its diagonal before a softplus."""
        (dimensions,) = latent
        return {"mean": latent, "scale": (dimensions * (dimensions + 1) // 2,)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> full_gaussian.FullGaussian:
        """Return the Gaussians of a batch."""
        mean, entries = parameters["mean"], parameters["scale"]
        dimensions = int(mean.shape[1])
        rows = [row * (row + 1) // 2 for row in range(dimensions + 1)]
        scale = tf.stack(
            [
                tf.pad(entries[:, first:after], [[0, 0], [0, dimensions - (after - first)]])
                for first, after in pairwise(rows)
            ],
            axis=1,
        )
        diagonal = tf.nn.softplus(tf.linalg.diag_part(scale)) + SMALLEST_DEVIATION
        return full_gaussian.FullGaussian(mean, with_diagonal(scale, diagonal))
