"""The 256 levels of a pixel, and the mass that a continuous distribution has at each.

The mass of a level is what lies between its edges; the lowest has all below it too, and the highest all above, so that
the masses add up to 1.
"""

import math

import tensorflow as tf

TOP_LEVEL = 255
HALF_LEVEL = 0.5 / TOP_LEVEL  # in units of an image in [0, 1]
NARROW = 1e-3  # of a standard deviation


def to_levels(values: tf.Tensor) -> tf.Tensor:
    """Return the nearest of the levels k / 255 to values, elementwise; those beyond 0 and 1 are at the ends."""
    return tf.round(tf.clip_by_value(values, 0.0, 1.0) * TOP_LEVEL) / TOP_LEVEL


def logistic_level_log_prob(value: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of a logistic distribution's mass at the levels `value` in [0, 1], elementwise.

    With the level's edges a and b in units of the scale it is log σ(b) + log σ(−a) + log(1 − exp(a − b)).
    """
    inverse_scale = tf.exp(-log_scale)
    log_below_high = tf.math.log_sigmoid((value - location + HALF_LEVEL) * inverse_scale)
    log_above_low = tf.math.log_sigmoid((location - value + HALF_LEVEL) * inverse_scale)
    log_rest = tf.math.log(-tf.math.expm1(-2 * HALF_LEVEL * inverse_scale))
    return _with_open_ends(value, log_below_high, log_below_high + log_above_low + log_rest, log_above_low)


def gaussian_level_log_prob(value: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of a Gaussian's mass at the levels `value` in [0, 1], elementwise."""
    inverse_scale = tf.exp(-log_scale)
    low = (value - location - HALF_LEVEL) * inverse_scale
    high = (value - location + HALF_LEVEL) * inverse_scale
    # A level right of the mean has the mass of its mirror image, whose edges' probabilities are not rounded to 1.
    is_right = low + high > 0
    log_nearer = log_ndtr(tf.where(is_right, -low, high))
    log_farther = log_ndtr(tf.where(is_right, -high, low))
    # Where a level is too narrow for that difference, its mass is its width times the density in its middle.
    middle, log_width = (low + high) / 2, math.log(2 * HALF_LEVEL) - log_scale
    is_narrow = 2 * HALF_LEVEL * inverse_scale * (1 + tf.abs(middle)) < NARROW
    difference = tf.where(is_narrow, -1.0, log_farther - log_nearer)
    from_density = -0.5 * tf.square(middle) - 0.5 * math.log(2 * math.pi) + log_width
    between = tf.where(is_narrow, from_density, log_nearer + tf.math.log(-tf.math.expm1(difference)))
    return _with_open_ends(value, log_ndtr(high), between, log_ndtr(-low))


def _with_open_ends(value: tf.Tensor, lowest: tf.Tensor, between: tf.Tensor, highest: tf.Tensor) -> tf.Tensor:
    return tf.where(value < HALF_LEVEL, lowest, tf.where(value > 1 - HALF_LEVEL, highest, between))


def log_ndtr(x: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the standard normal distribution function, elementwise, also where that underflows."""
    tail = tf.minimum(x, -10.0)
    inverse_square = 1 / tf.square(tail)
    series = tf.math.log1p(-inverse_square * (1 - 3 * inverse_square * (1 - 5 * inverse_square)))
    in_tail = -tf.square(tail) / 2 - tf.math.log(-tail) - 0.5 * math.log(2 * math.pi) + series
    left = tf.math.log(0.5 * tf.math.erfc(-tf.clip_by_value(x, -10.0, 0.0) / math.sqrt(2)))
    right = tf.math.log1p(-0.5 * tf.math.erfc(tf.maximum(x, 0.0) / math.sqrt(2)))
    return tf.where(x > 0, right, tf.where(x < -10, in_tail, left))
