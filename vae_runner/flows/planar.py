"""Maps that bend space along one direction, across a hyperplane."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.transformed import Flow

LEAST = 1e-3 - 1  # of wᵀû, which must be above −1 for the map to have an inverse
SHIFT = math.log(math.expm1(-LEAST))  # softplus(SHIFT) = −LEAST


def invertible_shifts(normals: tf.Tensor, shifts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return û = u + (m − wᵀu) w / ‖w‖², and m = wᵀû, where m = LEAST + softplus(wᵀu + SHIFT) > −1.

    `normals` are w and `shifts` u, both `[…, latent]`, as û is; m is `[…]`. The paper's m is
    softplus(wᵀu) − 1 (Rezende & Mohamed, 2015, appendix A.1). This one is 0 where wᵀu is, so that u = 0 makes the
    identity, and û does not grow without bound where w is small.
    """
    inner = tf.reduce_sum(normals * shifts, axis=-1, keepdims=True)
    allowed = LEAST + tf.nn.softplus(inner + SHIFT)
    square = tf.maximum(tf.reduce_sum(tf.square(normals), axis=-1, keepdims=True), 1e-12)
    return shifts + (allowed - inner) * normals / square, allowed[..., 0]


@dataclass(frozen=True)
class Planar(Flow):
    """z + û tanh(wᵀz + b), step after step (Rezende & Mohamed, 2015, equation 10).

    log|det| = Σ log(1 + tanh′(wᵀz + b) · wᵀû). It has no inverse in closed form.
    """

    normals: tf.Tensor  # w, float32 [batch, steps, latent]
    shifts: tf.Tensor  # u, float32 [batch, steps, latent]
    offsets: tf.Tensor  # b, float32 [batch, steps]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z, float32 `[batch, latent]`, and log|det|, `[batch]`."""
        shifts, inner = invertible_shifts(self.normals, self.shifts)
        bends = []
        for normal, shift, offset in zip(
            tf.unstack(self.normals, axis=1), tf.unstack(shifts, axis=1), tf.unstack(self.offsets, axis=1), strict=True
        ):
            bend = tf.tanh(tf.reduce_sum(normal * z, axis=1) + offset)
            z += shift * bend[:, tf.newaxis]
            bends.append(bend)
        slopes = 1 - tf.square(tf.stack(bends, axis=1))
        return z, tf.reduce_sum(tf.math.log1p(slopes * inner), axis=1)
