"""Inverse autoregressive flows: maps of each dimension that depend on those before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from vae_runner.distributions.transformed import Flow
from vae_runner.flows.networks import Network, Networks

GATE_BIAS = 2.0  # what is 0 at first keeps 0.88 of z


def masked_networks(steps: int, latent: int, width: int) -> Networks:
    """Return networks of which output j depends on inputs before j only (Germain et al., 2015: MADE).

    In every other step "before" is "after": the order is reversed. Outputs are a shift and a gate for each dimension.
    """
    order = np.arange(latent)
    seen = np.arange(width) * latent // width  # how many of the first dimensions a hidden unit may depend on
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

    networks: Sequence[Network]  # from z to m and s of all dimensions, `[batch, 2 · latent]`

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where z goes, and log|det|."""
        log_det = tf.zeros_like(z[:, 0])
        for network in self.networks:
            shift, log_gate = _shift_and_log_gate(network, z)
            gate = tf.exp(log_gate)
            z = gate * z + (1 - gate) * shift
            log_det += tf.reduce_sum(log_gate, axis=1)
        return z, log_det

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return what goes to z, and log|det|: in each step as many passes as dimensions, one more is right in each."""
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
