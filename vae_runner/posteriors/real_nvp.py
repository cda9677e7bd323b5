"""A Gaussian after affine couplings of its halves."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from vae_runner.flows import real_nvp
from vae_runner.posteriors.base import Shape
from vae_runner.posteriors.flow import FlowPosterior


class RealNvp(FlowPosterior, keras.layers.Layer):
    """q(z|x) by `steps` affine couplings (Dinh et al., 2017).

    All images share the networks in the maps, of `width` units a hidden layer. For each image the encoder gives a
    context, which is added to the first hidden layer.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self._steps, self._width = steps, width

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the networks."""
        self._networks = real_nvp.coupling_networks(self._steps, math.prod(latent_shape), self._width)

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return the context."""
        return {"context": (self._width,)}

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> real_nvp.RealNvp:
        """Return the couplings of a batch."""
        return real_nvp.RealNvp(self._networks.given(parameters["context"]))
