"""Sums over what belongs to one image."""

import tensorflow as tf


def event_sum(values: tf.Tensor) -> tf.Tensor:
    """Return the sum of `[batch, …]` over all axes but the first: `[batch]`."""
    return tf.reduce_sum(values, axis=list(range(1, values.shape.rank)))
