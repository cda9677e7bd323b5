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

    Q has orthonormal columns: the first ones of a product of as many reflections, which reach all such Q. R₁ and R₂ are
    upper triangular, their diagonals within ±1. log|det| = Σ log(1 + tanh′ · diag(R₁) · diag(R₂)).
    """

    vectors: tf.Tensor  # of the reflections, float32 [batch, steps, columns, latent]
    triangles: tf.Tensor  # R₁ᵀ and, right of its diagonal, R₂: float32 [batch, steps, columns, columns + 1]
    offsets: tf.Tensor  # b, float32 [batch, steps, columns]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where z goes, and log|det|."""
        rows = self._orthonormal_rows()
        outer, inner = (
            _triangle(tf.linalg.matrix_transpose(self.triangles[..., :-1])),
            _triangle(self.triangles[..., 1:]),
        )
        # The products of all steps at once; what is left for each is sums, which are faster than products of vectors.
        entries, exits = tf.matmul(inner, rows), tf.matmul(outer, rows, transpose_a=True)
        bends = []
        for entry, offset, exit_ in zip(
            *(tf.unstack(values, axis=1) for values in (entries, self.offsets, exits)), strict=True
        ):
            bend = tf.tanh(tf.reduce_sum(entry * z[:, tf.newaxis], axis=2) + offset)
            z += tf.reduce_sum(exit_ * bend[..., tf.newaxis], axis=1)
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
    """Return the upper triangles of matrices, their diagonals squashed."""
    diagonal = LARGEST_DIAGONAL * tf.tanh(tf.linalg.diag_part(values))
    return with_diagonal(tf.linalg.band_part(values, 0, -1), diagonal)
