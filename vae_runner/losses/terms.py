"""The terms that losses are made of; each gives one number an image, `[batch]`."""

import tensorflow as tf


def mean_squared_error(images: tf.Tensor, reconstructions: tf.Tensor) -> tf.Tensor:
    """The mean over an image's pixels and channels of the squared difference: `[batch]`."""
    return tf.reduce_mean(tf.math.squared_difference(images, reconstructions), axis=[1, 2, 3])
