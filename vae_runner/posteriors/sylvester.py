"""A Gaussian bent along several directions at once, in each of several maps."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.flows import sylvester
from vae_runner.posteriors.base import Shape
from vae_runner.posteriors.flow import FlowPosterior


class Sylvester(FlowPosterior):
    """q(z|x) by `steps` Sylvester maps, each in `columns` directions (van den Berg et al., 2018).

    All parameters of the maps are the encoder's. A map has no more directions than z has dimensions.
    """

    has_density_everywhere = False

    def __init__(self, steps: int, columns: int) -> None:
        self._steps, self._columns = steps, columns

    def flow_parameters(self, latent: int) -> dict[str, Shape]:
        """Return for each step the vectors of the reflections, two triangles and an offset."""
        columns = min(self._columns, latent)
        return {
            "reflections": (self._steps * columns * latent,),
            "triangles": (self._steps * columns * (columns + 1),),
            "offsets": (self._steps * columns,),
        }

    def flow(self, parameters: Mapping[str, tf.Tensor]) -> sylvester.Sylvester:
        """Return the maps of a batch."""
        latent = parameters["base_mean"].shape[1]
        columns = min(self._columns, latent)
        return sylvester.Sylvester(
            tf.reshape(parameters["reflections"], [-1, self._steps, columns, latent]),
            tf.reshape(parameters["triangles"], [-1, self._steps, columns, columns + 1]),
            tf.reshape(parameters["offsets"], [-1, self._steps, columns]),
        )
