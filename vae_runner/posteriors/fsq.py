"""A few levels for each dimension, without a codebook."""

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from vae_runner.distributions.codes import Quantized
from vae_runner.posteriors.base import CodePosterior, Shape

MARGIN = 1e-3  # by which the outermost levels are wider, so that tanh reaches them


class FiniteScalarQuantizer(CodePosterior):
    """Each dimension rounded to one of its `levels`, equal steps in [−1, 1] (Mentzer et al., 2024).

    `levels` is one number for all dimensions, or one for each of the channels of a position of z.
    """

    has_density = False

    def __init__(self, levels: int | Sequence[int]) -> None:
        self._given = levels

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create no weights, but count the codes of a position."""
        given = self._given
        self._levels = [given] * latent_shape[-1] if isinstance(given, int) else list(given)
        self.codes = math.prod(self._levels)

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a number for each dimension."""
        return {"embedding": latent}

    def positions(self, z_size: int) -> int:
        """Return how many positions a z of `z_size` numbers has."""
        return z_size // len(self._levels)

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the levels, in [−1, 1], of codes, int32 `[batch, positions]`: float32 `[batch, dimensions]`."""
        levels = tf.constant(self._levels)
        digits = codes[..., tf.newaxis] // self._places % levels
        return tf.reshape(
            tf.cast(digits - levels // 2, tf.float32) / self._half, [-1, codes.shape[1] * len(self._levels)]
        )

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Quantized:
        """Return the rounded numbers of a batch."""
        embedding, levels = parameters["embedding"], tf.constant(self._levels, tf.float32)
        dimensions = embedding.shape[1]
        reach = (levels - 1) * (1 + MARGIN) / 2
        # An even number of levels has as many below 0 as above it when 0 counts with these.
        offset = tf.where(levels % 2 == 0, 0.5, 0.0)
        # 0 becomes level 0. Of two levels that is the end of tanh, where it has no slope: there 0 is between them.
        shift = tf.where(levels == 2, 0.0, tf.atanh(offset / reach))
        rows = tf.reshape(embedding, [-1, len(self._levels)])
        bounded = tf.tanh(rows + shift) * reach - offset
        rounded = tf.round(bounded)
        digits = tf.cast(rounded, tf.int32) + tf.constant(self._levels) // 2
        codes = tf.reduce_sum(digits * self._places, axis=1)
        return Quantized(
            tf.reshape(bounded / self._half, [-1, dimensions]), tf.reshape(rounded / self._half, [-1, dimensions]),
            tf.reshape(codes, [-1, dimensions // len(self._levels)]),
        )  # fmt: skip

    @property
    def _places(self) -> tf.Tensor:
        """Return what a step of each dimension is worth in a code: 1, levels₁, levels₁ · levels₂, …"""
        return tf.constant([math.prod(self._levels[:place]) for place in range(len(self._levels))])

    @property
    def _half(self) -> tf.Tensor:
        """Return the number of steps from 0 to −1, by which levels are divided."""
        return tf.constant([float(levels // 2) for levels in self._levels])
