"""A Gaussian turned by reflections."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.flows import householder
from vae_runner.posteriors.base import Shape
from vae_runner.posteriors.flow import FlowPosterior


class Householder(FlowPosterior):
    """q(z|x) by `steps` reflections, whose vectors the encoder gives (Tomczak & Welling, 2016).

    It is a Gaussian whose dimensions are correlated.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return a vector for each step."""
        return {"reflections": (self._steps * latent,)}

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> householder.Householder:
        """Return the maps of a batch."""
        latent = parameters["base_mean"].shape[1]
        return householder.Householder(tf.reshape(parameters["reflections"], [-1, self._steps, latent]))
