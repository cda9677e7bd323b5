"""A normal distribution after affine couplings, trained with the networks."""

import math

import keras
import tensorflow as tf

from vae_runner.distributions.gaussian import StandardNormal
from vae_runner.distributions.transformed import Transformed
from vae_runner.flows import real_nvp
from vae_runner.priors.base import Encoding, Prior


class RealNvp(Prior, keras.layers.Layer):
    """log p(z) = log N(f(z); 0, I) + log|det ∂f/∂z|, where f⁻¹ is `steps` affine couplings (Dinh et al., 2017).

    Draws are f⁻¹ of draws of N(0, I), and f begins as the identity. The networks in the couplings have `width` units a
    hidden layer.
    """

    symbol = "RealNVP"

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self._steps, self._width = steps, width

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the networks."""
        self._networks = real_nvp.coupling_networks(self._steps, math.prod(latent_shape), self._width)

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> Transformed:
        """Return the transformed normal distribution."""
        flow = real_nvp.RealNvp(self._networks.given(context=None))
        return Transformed(StandardNormal(autoencoder.latent), flow)
