"""The mean squared error in place of a density."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class SquaredError:
    """A pseudo-likelihood of images: their mean, and how far an image is from it; no density.

    `weight` × the error is −log p(x|z) up to a constant for a Gaussian of variance (number of pixels) / (2 · weight).
    """

    mean: tf.Tensor  # float32 in [0, 1], [batch, height, width, channels]

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return the mean over an image's pixels and channels of the squared difference: `[batch]`."""
        return tf.reduce_mean(tf.math.squared_difference(images, self.mean), axis=[1, 2, 3])
