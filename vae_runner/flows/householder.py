"""Reflections, whose product turns a Gaussian, so that its dimensions are correlated."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.matrices import with_diagonal
from vae_runner.distributions.transformed import Flow


def compact(vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return U and A such that the reflections H = I − 2 v vᵀ / ‖v‖² have the product H₁ H₂ … = I − Uᵀ A⁻¹ U.

    The rows of `vectors`, float32 `[…, reflections, latent]`, are the v of H₁, H₂, …; those of U, of the same shape,
    are the v divided by their norms. A, `[…, reflections, reflections]`, is upper triangular, with ½ on its diagonal
    and the entries of U Uᵀ above it (Joffrain et al., 2006: the UT transform).
    """
    unit = tf.math.l2_normalize(vectors, axis=-1)
    products = tf.matmul(unit, unit, transpose_b=True)
    return unit, with_diagonal(tf.linalg.band_part(products, 0, -1), tf.fill([vectors.shape[-2]], 0.5))


@dataclass(frozen=True)
class Householder(Flow):
    """The product of reflections z − 2 v vᵀz / ‖v‖², which keeps volumes: log|det| = 0 (Tomczak & Welling, 2016)."""

    vectors: tf.Tensor  # v, float32 [batch, steps, latent]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z under the product, and 0: float32 `[batch, latent]` and `[batch]`."""
        return self._reflected(z, transposed=False), tf.zeros_like(z[:, 0])

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point that the product takes to z, and 0: the transposed product is the inverse."""
        return self._reflected(z, transposed=True), tf.zeros_like(z[:, 0])

    def _reflected(self, z: tf.Tensor, *, transposed: bool) -> tf.Tensor:
        unit, triangle = compact(self.vectors)
        along = tf.matmul(unit, z[..., tf.newaxis])
        weights = tf.linalg.triangular_solve(triangle, along, lower=False, adjoint=transposed)
        return z - tf.matmul(unit, weights, transpose_a=True)[..., 0]
