"""A Gaussian after inverse autoregressive maps, which move each dimension by those before it."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from vae_runner.flows.iaf import InverseAutoregressive, masked_networks
from vae_runner.posteriors.base import Shape
from vae_runner.posteriors.flow import FlowPosterior


class Iaf(FlowPosterior, keras.layers.Layer):
    """q(z|x) by `steps` inverse autoregressive maps (Kingma et al., 2016).

    All images share the networks in the maps, of `width` units a hidden layer. For each image the encoder gives a
    context, which is added to the first hidden layer.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self._steps, self._width = steps, width

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the networks."""
        self._networks = masked_networks(self._steps, math.prod(latent_shape), self._width)

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return the context."""
        return {"context": (self._width,)}

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> InverseAutoregressive:
        """Return the maps of a batch."""
        return InverseAutoregressive(self._networks.given(parameters["context"]))
