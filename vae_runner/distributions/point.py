"""Distributions with all mass on one point."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Noise


@dataclass(frozen=True)
class Point:
    """A distribution without a density, all of whose draws are `mean`: the code of a plain autoencoder."""

    mean: tf.Tensor  # float32 [batch, dimensions]

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return the mean: there is nothing to draw."""
        return self.mean

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Raise NotImplementedError: a point has no density."""
        raise NotImplementedError("a point has no density")
