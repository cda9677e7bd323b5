"""Inverse autoregressive flows: each dimension is mapped in a way that depends on the dimensions before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from vae_runner.distributions.transformed import Flow
from vae_runner.flows.networks import Network, Networks

GATE_BIAS = 2.0  # A new network gives 0, and sigmoid(2) = 0.88 of z is kept.


def masked_networks(steps: int, latent: int, width: int) -> Networks:
    """Return a network for each step, whose outputs for dimension j depend on the inputs before j only.

    The masks are those of MADE (Germain et al., 2015). In every other step the order of the dimensions is reversed. The
    outputs are a shift for each dimension, then a gate for each.
    """
    order = np.arange(latent)
    seen = np.arange(width) * latent // width  # on how many of the first dimensions a hidden unit may depend
    first = order[:, np.newaxis] < seen
    between = seen[:, np.newaxis] <= seen
    last = np.tile(seen[:, np.newaxis] <= order, 2)
    reverse = [step % 2 == 1 for step in range(steps)]
    masks = (
        np.stack([first[::-1] if reversed_ else first for reversed_ in reverse]),
        between[np.newaxis],
        np.stack([last[:, ::-1] if reversed_ else last for reversed_ in reverse]),
    )
    return Networks(steps, latent, width, 2 * latent, [mask.astype(np.float32) for mask in masks])


@dataclass(frozen=True)
class InverseAutoregressive(Flow):
    """g z + (1 − g) m, step after step, log|det| = Σ log g (Kingma et al., 2016, algorithm 1).

    The shift m and the gate g = sigmoid(s + bias) of a dimension depend on the dimensions before it.
    """

    networks: Sequence[Network]  # one a step, from z to m and then s of all dimensions, [batch, 2 · latent]

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z, float32 `[batch, latent]`, and log|det|, `[batch]`."""
        log_det = tf.zeros_like(z[:, 0])
        for network in self.networks:
            shift, log_gate = _shift_and_log_gate(network, z)
            gate = tf.exp(log_gate)
            z = gate * z + (1 - gate) * shift
            log_det += tf.reduce_sum(log_gate, axis=1)
        return z, log_det

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point that is taken to z, `[batch, latent]`, and `forward`'s log|det| there, `[batch]`.

        Each step takes as many passes through its network as there are dimensions: a pass makes one more of them right.
        """
        log_det = tf.zeros_like(z[:, 0])
        for network in reversed(self.networks):
            start = tf.zeros_like(z)
            for _ in range(z.shape[1]):
                shift, log_gate = _shift_and_log_gate(network, start)
                start = (z - shift) * tf.exp(-log_gate) + shift
            log_det += tf.reduce_sum(log_gate, axis=1)
            z = start
        return z, log_det


def _shift_and_log_gate(network: Network, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shift, gate = tf.split(network(z), 2, axis=1)
    return shift, tf.math.log_sigmoid(gate + GATE_BIAS)
