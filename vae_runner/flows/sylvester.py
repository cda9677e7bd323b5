"""Maps that bend space along several directions at once."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.matrices import with_diagonal
from vae_runner.distributions.transformed import Flow
from vae_runner.flows.householder import compact

LARGEST_DIAGONAL = 0.999  # so that the product of two stays above −1


@dataclass(frozen=True)
class Sylvester(Flow):
    """z + Q R₁ tanh(R₂ Qᵀz + b), step after step (van den Berg et al., 2018, equation 13).

    Q has orthonormal columns: the first columns of a product of as many reflections, which can make any such Q. R₁ and
    R₂ are upper triangular, with diagonals within ±1. log|det| = Σ log(1 + tanh′(R₂ Qᵀz + b) · diag(R₁) · diag(R₂)).
    There is no inverse in closed form.
    """

    vectors: tf.Tensor  # of the reflections, float32 [batch, steps, columns, latent]
    # On and below the diagonal R₁ᵀ, and right of it R₂, before their diagonals are squashed: float32
    # [batch, steps, columns, columns + 1].
    triangles: tf.Tensor
    offsets: tf.Tensor  # b, float32 [batch, steps, columns]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z, float32 `[batch, latent]`, and log|det|, `[batch]`."""
        rows = self._orthonormal_rows()
        outer = _triangle(tf.linalg.matrix_transpose(self.triangles[..., :-1]))
        inner = _triangle(self.triangles[..., 1:])
        # R₂ Qᵀ and (Q R₁)ᵀ are made for all steps at once. Each step then multiplies and sums, which is faster than a
        # product of a matrix and a vector.
        normals, shifts = tf.matmul(inner, rows), tf.matmul(outer, rows, transpose_a=True)
        bends = []
        for normal, offset, shift in zip(
            *(tf.unstack(values, axis=1) for values in (normals, self.offsets, shifts)), strict=True
        ):
            bend = tf.tanh(tf.reduce_sum(normal * z[:, tf.newaxis], axis=2) + offset)
            z += tf.reduce_sum(shift * bend[..., tf.newaxis], axis=1)
            bends.append(bend)
        slopes = 1 - tf.square(tf.stack(bends, axis=1))
        log_dets = tf.math.log1p(slopes * tf.linalg.diag_part(outer) * tf.linalg.diag_part(inner))
        return z, tf.reduce_sum(log_dets, axis=[1, 2])

    def _orthonormal_rows(self) -> tf.Tensor:
        """Return Qᵀ, `[batch, steps, columns, latent]`."""
        unit, triangle = compact(self.vectors)
        columns, latent = unit.shape[-2:]
        weights = tf.linalg.triangular_solve(triangle, unit[..., :columns], lower=False)
        return tf.eye(columns, latent) - tf.matmul(weights, unit, transpose_a=True)


def _triangle(values: tf.Tensor) -> tf.Tensor:
    """Return the upper triangles of matrices, with diagonals squashed to ± `LARGEST_DIAGONAL`."""
    diagonal = LARGEST_DIAGONAL * tf.tanh(tf.linalg.diag_part(values))
    return with_diagonal(tf.linalg.band_part(values, 0, -1), diagonal)
