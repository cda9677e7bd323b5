"""Training images changed at random in the compiled step, each in a way of its own."""

import tensorflow as tf

from vae_runner.datasets.schema import AugmentConfig

NUMBERS = 7  # that decide what becomes of an image


def augment(images: tf.Tensor, numbers: tf.Tensor, keys: AugmentConfig) -> tf.Tensor:
    """Return images that are cropped, moved, flipped and made brighter or darker, as `keys` say.

    `images` are float32 in [0, 1], `[batch, height, width, channels]`, and so is what is returned, on the 256 levels of
    pixels. `numbers` are uniform in [0, 1), `[batch, NUMBERS]`.
    """
    height, width = images.shape[1:3]
    flip, down, right, size, top, left, light = tf.unstack(numbers, axis=1)
    part = 1 - keys.crop * size
    rows = _places(height, part, top) + _shift(down, keys.shift)
    columns = _places(width, part, left) + _shift(right, keys.shift)
    if keys.flip:
        columns = tf.where(flip[:, tf.newaxis] < 0.5, columns, columns[:, ::-1])
    images = _taken(_taken(images, rows, 1, exact=not keys.crop), columns, 2, exact=not keys.crop)
    if keys.brightness:
        images += (keys.brightness * (2 * light - 1))[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.round(tf.clip_by_value(images, 0.0, 1.0) * 255) / 255 if keys.crop or keys.brightness else images


def _places(side: int, part: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return where in an image each of `side` pixels is taken from, float32 `[batch, side]`.

    Pixels are that of a part of the image, `[batch]` of its side, whose first possible start is 0 and the last 1. Their
    centres are at whole numbers.
    """
    part, start = part[:, tf.newaxis], start[:, tf.newaxis]
    return part * (tf.range(side, dtype=tf.float32) + 0.5) + start * (1 - part) * side - 0.5


def _shift(number: tf.Tensor, most: int) -> tf.Tensor:
    """Return a whole number from −most to most for each image, float32 `[batch, 1]`."""
    return tf.floor(number * (2 * most + 1))[:, tf.newaxis] - most


def _taken(images: tf.Tensor, places: tf.Tensor, axis: int, *, exact: bool) -> tf.Tensor:
    """Return images with rows (axis 1) or columns (axis 2) from these places, where pixels at the edge are repeated.

    With `exact`, all places are whole numbers; else pixels between are interpolated linearly.
    """
    places = tf.clip_by_value(places, 0.0, images.shape[axis] - 1.0)
    before = tf.floor(places)
    first = _gathered(images, tf.round(places) if exact else before, axis)
    if exact:
        return first
    fraction = tf.expand_dims(places - before, 2 if axis == 1 else 1)[..., tf.newaxis]
    return first + fraction * (_gathered(images, tf.math.ceil(places), axis) - first)


def _gathered(images: tf.Tensor, places: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.gather(images, tf.cast(places, tf.int32), axis=axis, batch_dims=1)
