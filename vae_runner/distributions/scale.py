"""Scales that are kept away from 0."""

import keras
import tensorflow as tf


def soft_floor(log_scale: tf.Tensor, floor: float) -> tf.Tensor:
    """Return floor + softplus(log_scale − floor), elementwise: log_scale itself where that is far above the floor.

    Unlike a clip it has a gradient everywhere (Rybkin et al., 2021). Without a floor the density of pixels that are the
    same in all images, like a black border, would grow without bound.
    """
    return floor + keras.ops.softplus(log_scale - floor)
