"""A normal distribution after affine couplings, trained by maximum likelihood."""

from dataclasses import dataclass
from typing import Self

import keras
import numpy as np
import tensorflow as tf

from vae_runner.distributions.gaussian import StandardNormal
from vae_runner.distributions.transformed import Flow, Transformed
from vae_runner.errors import UserError
from vae_runner.fitted_priors.base import Arrays, FittedPrior, Report, Space, Standard, Values, check_arrays
from vae_runner.fitted_priors.likelihood import SEED, maximize_likelihood
from vae_runner.flows.networks import Networks
from vae_runner.flows.real_nvp import RealNvp, coupling_networks

STEPS, WIDTH = 8, 128  # couplings, and units of each hidden layer in their networks
BATCH = 256


@dataclass(frozen=True)
class FittedFlow(FittedPrior):
    """RealNVP (Dinh et al., 2017) of latents that were standardised before, and its inverse before it."""

    networks: Networks
    standard: Standard

    @classmethod
    def fit(cls, space: Space, values: Values, held_out: Values, report: Report, components: int = 0) -> Self:
        """Return the flow under which `held_out` latents were most likely while it was trained."""
        (latent,) = space.shape
        if latent < 2:
            raise UserError("--prior flow couples dimensions of z, and this run has one: choose --prior mixture")
        keras.utils.set_random_seed(SEED)
        flow = cls(coupling_networks(STEPS, latent, WIDTH), Standard.of(values))
        maximize_likelihood(
            flow.networks, lambda z: flow.distribution.log_prob(z), space, values, held_out, report, BATCH
        )
        return flow

    @classmethod
    def from_arrays(cls, space: Space, arrays: Arrays) -> Self:
        """Return the flow that has these arrays."""
        (latent,) = space.shape
        networks = coupling_networks(STEPS, latent, WIDTH)
        shapes = {str(number): tuple(weight.shape) for number, weight in enumerate(networks.variables)}
        check_arrays(arrays, {**shapes, "shift": (latent,), "scale": (latent,)})
        if not np.all(arrays["scale"] > 0):
            raise ValueError("its scale is not above 0")
        networks.set_weights([arrays[name] for name in shapes])
        return cls(networks, Standard(arrays["shift"], arrays["scale"]))

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
