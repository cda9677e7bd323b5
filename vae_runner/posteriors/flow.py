"""What posteriors have in common that take the draws of a Gaussian through a flow."""

import math
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.transformed import Flow, Transformed
from vae_runner.flows.networks import Network, Networks
from vae_runner.posteriors.base import Posterior, Shape


class FlowPosterior(Posterior):
    """q(z|x) of z = flow(z₀), z₀ ~ N(base_mean, diag(exp(base_log_var))) (Rezende & Mohamed, 2015)."""

    has_density = True

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean and the logarithm of a variance for each dimension, and what the flow needs."""
        return {"base_mean": latent, "base_log_var": latent, **self.flow_parameters(latent[0])}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Transformed:
        """Return the transformed Gaussians of a batch."""
        base = DiagonalGaussian(parameters["base_mean"], parameters["base_log_var"])
        return Transformed(base, self.flow(parameters))

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return by name the shapes of what the flow needs from an encoder for one image."""
        raise NotImplementedError

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> Flow:
        """Return the flow that parameters `[batch, …]` describe, a map of its own for each image."""
        raise NotImplementedError


class SharedFlowPosterior(FlowPosterior, keras.layers.Layer):
    """q(z|x) by `steps` maps with networks, of `width` units a hidden layer, that all images share.

    For each image the encoder gives a context, which is added to the first hidden layer.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self._steps, self._width = steps, width

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the networks."""
        self._networks = self.networks(self._steps, math.prod(latent_shape), self._width)

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return the context."""
        return {"context": (self._width,)}

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> Flow:
        """Return the maps of a batch."""
        return self.maps(self._networks.given(parameters["context"]))

    def networks(self, steps: int, latent: int, width: int) -> Networks:
        """Return the networks in the maps."""
        raise NotImplementedError

    def maps(self, networks: Sequence[Network]) -> Flow:
        """Return the maps with these networks."""
        raise NotImplementedError
