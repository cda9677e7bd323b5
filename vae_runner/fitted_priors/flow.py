"""A normal distribution after affine couplings, trained by maximum likelihood."""

from dataclasses import dataclass
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from vae_runner.distributions.gaussian import StandardNormal
from vae_runner.distributions.transformed import Flow, Transformed
from vae_runner.errors import UserError
from vae_runner.fitted_priors.base import Arrays, FittedPrior, Latents, Report, Standard, check_arrays
from vae_runner.flows.networks import Networks
from vae_runner.flows.real_nvp import RealNvp, coupling_networks

STEPS, WIDTH = 8, 128  # couplings, and units of each hidden layer in their networks
LEARNING_RATE = 1e-3
BATCH = 256
MAX_EPOCHS = 200
PATIENCE = 10  # epochs in which held-out latents do not become more likely
SEED = 0


@dataclass(frozen=True)
class FittedFlow(FittedPrior):
    """RealNVP (Dinh et al., 2017) of latents that were standardised before, and its inverse before it."""

    networks: Networks
    standard: Standard

    @classmethod
    def fit(cls, latents: Latents, held_out: Latents, report: Report, components: int = 0) -> Self:
        """Return the flow under which `held_out` latents were most likely of those after each epoch of training."""
        dimensions = latents.shape[1]
        if dimensions < 2:
            raise UserError("--prior flow couples dimensions of z, and this run has one: choose --prior mixture")
        keras.utils.set_random_seed(SEED)
        flow = cls(coupling_networks(STEPS, dimensions, WIDTH), Standard.of(latents))
        optimizer = keras.optimizers.Adam(LEARNING_RATE)
        optimizer.build(flow.networks.trainable_variables)
        fitted = tf.constant(latents)
        weights = flow.networks.trainable_variables

        @tf.function
        def train(order: tf.Tensor) -> None:
            for places in order:
                with tf.GradientTape() as tape:
                    loss = -tf.reduce_mean(flow.distribution.log_prob(tf.gather(fitted, places)))
                optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)

        @tf.function
        def score() -> tf.Tensor:
            return tf.reduce_mean(flow.distribution.log_prob(tf.constant(held_out)))

        generator = np.random.default_rng(SEED)
        batch = min(BATCH, len(latents))
        best, best_score, best_epoch = flow.networks.get_weights(), float(score()), 0
        for epoch in range(1, MAX_EPOCHS + 1):
            report((epoch - 1) / MAX_EPOCHS)
            order = generator.permutation(len(latents))[: len(latents) // batch * batch]
            train(tf.constant(order.reshape(-1, batch)))
            if (now := float(score())) > best_score:
                best, best_score, best_epoch = flow.networks.get_weights(), now, epoch
            elif not epoch < best_epoch + PATIENCE:
                break
        report(1.0)
        flow.networks.set_weights(best)
        return flow

    @classmethod
    def from_arrays(cls, arrays: Arrays, latent: int) -> Self:
        """Return the flow that has these arrays."""
        networks = coupling_networks(STEPS, latent, WIDTH)
        shapes = {str(number): tuple(weight.shape) for number, weight in enumerate(networks.variables)}
        check_arrays(arrays, {**shapes, "shift": (latent,), "scale": (latent,)})
        if not np.all(arrays["scale"] > 0):
            raise ValueError("its scale is not above 0")
        networks.set_weights([arrays[name] for name in shapes])
        return cls(networks, Standard(*(arrays[name].astype(np.float32) for name in ("shift", "scale"))))

    @property
    def arrays(self) -> Arrays:
        """Return shift, scale, and the networks' weights by their number."""
        weights = {str(number): weight for number, weight in enumerate(self.networks.get_weights())}
        return {**weights, "shift": self.standard.shift, "scale": self.standard.scale}

    @property
    def distribution(self) -> Transformed:
        """Return the transformed normal distribution."""
        flow = RealNvp(self.networks.given(context=None))
        return Transformed(StandardNormal(len(self.standard.shift)), _Rescaled(flow, self.standard))

    symbol = "fitted RealNVP"


@dataclass(frozen=True)
class _Rescaled(Flow):
    """A flow, after which latents are no longer standardised."""

    flow: Flow
    standard: Standard

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image of z, float32 `[batch, latent]`, and log|det|, `[batch]`."""
        moved, log_det = self.flow.forward(z)
        return moved * self.standard.scale + self.standard.shift, log_det + self._log_det

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point that is taken to z, `[batch, latent]`, and `forward`'s log|det| there, `[batch]`."""
        start, log_det = self.flow.inverse((z - self.standard.shift) / self.standard.scale)
        return start, log_det + self._log_det

    @property
    def _log_det(self) -> float:
        return float(np.log(self.standard.scale.astype(np.float64)).sum())
