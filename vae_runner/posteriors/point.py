"""One point, without a variance: a plain autoencoder's code."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import point as distributions
from vae_runner.posteriors.base import Posterior, Shape


class Point(Posterior):
    """All mass on the mean."""

    has_density = False

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a mean for each dimension."""
        return {"mean": latent}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> distributions.Point:
        """Return the points of a batch."""
        return distributions.Point(**parameters)
