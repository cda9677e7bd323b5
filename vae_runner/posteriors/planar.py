"""A Gaussian bent along one direction after another."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.flows import planar
from vae_runner.posteriors.base import Shape
from vae_runner.posteriors.flow import FlowPosterior


class Planar(FlowPosterior):
    """q(z|x) by `steps` planar maps, all of whose parameters are the encoder's (Rezende & Mohamed, 2015).

    What the encoder gives for w and u is multiplied by `scale`. The maps are as general with any, but with a small one
    they begin near the identity, and an optimizer's steps along them are shorter. The default is for the configurations
    of earlier runs, which have no scale.
    """

    has_density_everywhere = False

    def __init__(self, steps: int, scale: float = 1.0) -> None:
        self._steps, self._scale = steps, scale

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return two vectors and a number for each step."""
        return {"normals": (self._steps * latent,), "shifts": (self._steps * latent,), "offsets": (self._steps,)}

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> planar.Planar:
        """Return the maps of a batch."""
        vectors = [self._steps, parameters["base_mean"].shape[1]]
        normals, shifts = (self._scale * tf.reshape(parameters[name], [-1, *vectors]) for name in ("normals", "shifts"))
        return planar.Planar(normals, shifts, parameters["offsets"])
