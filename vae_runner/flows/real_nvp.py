"""Affine couplings: one half of the dimensions decides how the other half is scaled and shifted."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.transformed import Flow
from vae_runner.errors import UserError
from vae_runner.flows.networks import Network, Networks

LARGEST_LOG_SCALE = 2.0  # of one step


def coupling_networks(steps: int, latent: int, width: int) -> Networks:
    """Return a network for each step, from half of z to a log-scale and a shift for each dimension of the other half.

    Raises:
        UserError: z has one dimension, and so no halves.
    """
    if latent < 2:
        raise UserError(
            f"latent={latent}: real_nvp couples dimensions of z to each other, and needs at least 2: choose latent=2, "
            "or another posterior or prior"
        )
    return Networks(steps, latent // 2, width, 2 * (latent - latent // 2))


@dataclass(frozen=True)
class RealNvp(Flow):
    """(a, b) → (a, b eˢ + t), s and t functions of a, step after step, log|det| = Σ s (Dinh et al., 2017, equation 4).

    The halves alternate: a has the first dimensions in one step, and the last in the next. s stays within
    ± `LARGEST_LOG_SCALE`.
    """

    networks: Sequence[Network]  # one a step, from a to s and then t, [batch, 2 · dimensions of b]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z, float32 `[batch, latent]`, and log|det|, `[batch]`."""
        log_det = tf.zeros_like(z[:, 0])
        for step, network in enumerate(self.networks):
            kept, moved = _halves(z, step)
            log_scale, shift = _log_scale_and_shift(network, kept)
            z = _joined(kept, moved * tf.exp(log_scale) + shift, step)
            log_det += tf.reduce_sum(log_scale, axis=1)
        return z, log_det

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point that is taken to z, `[batch, latent]`, and `forward`'s log|det| there, `[batch]`."""
        log_det = tf.zeros_like(z[:, 0])
        for step, network in reversed(list(enumerate(self.networks))):
            kept, moved = _halves(z, step)
            log_scale, shift = _log_scale_and_shift(network, kept)
            z = _joined(kept, (moved - shift) * tf.exp(-log_scale), step)
            log_det += tf.reduce_sum(log_scale, axis=1)
        return z, log_det


def _halves(z: tf.Tensor, step: int) -> tuple[tf.Tensor, tf.Tensor]:
    half = z.shape[1] // 2
    return (z[:, -half:], z[:, :-half]) if step % 2 else (z[:, :half], z[:, half:])


def _joined(kept: tf.Tensor, moved: tf.Tensor, step: int) -> tf.Tensor:
    return tf.concat([moved, kept] if step % 2 else [kept, moved], axis=1)


def _log_scale_and_shift(network: Network, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    scale, shift = tf.split(network(kept), 2, axis=1)
    return LARGEST_LOG_SCALE * tf.tanh(scale / LARGEST_LOG_SCALE), shift
