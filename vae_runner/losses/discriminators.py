"""Discriminators: networks that tell real from generated, and what they and their opponents minimise.

A discriminator's output is the logarithm of the odds that what it is given is real. Its last layer is in float32 in
mixed precision too. Convolutions are normalised for each image by itself (Gulrajani et al., 2017, recommend that for
critics), where the papers take moments of a batch: what is said of an image does not depend on the other images, nor on
how replicas share them.
"""

import math

import keras
import tensorflow as tf

SLOPE = 0.2  # of LeakyReLU
FEATURES, LOGIT = "features", "logit"  # the outputs of `of_images`


def of_vectors(dimensions: int, width: int, depth: int) -> keras.Model:
    """Return a network from z, `[batch, dimensions]`, to a logit, `[batch, 1]`, of `depth` hidden layers."""
    x = inputs = keras.Input((dimensions,), name="z")
    for i in range(1, depth + 1):
        x = keras.layers.Dense(width, name=f"dense_{i}")(x)
        x = keras.layers.LeakyReLU(SLOPE, name=f"leaky_relu_{i}")(x)
    return keras.Model(inputs, keras.layers.Dense(1, dtype="float32", name=LOGIT)(x), name="discriminator")


def of_images(image_shape: tuple[int, int, int], width: int) -> keras.Model:
    """Return the discriminator of Larsen et al. (2016, table 1), from images to a dictionary.

    `logit` is `[batch, 1]`; `features`, the outputs of the last convolution, are `[batch, n]`. The first of four
    convolutions has `width` filters, which are 32 in the paper.
    """
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Conv2D(width, 5, padding="same", name="conv_1")(images)
    for i, factor in enumerate((4, 8, 8), start=2):
        x = keras.layers.ReLU(name=f"relu_{i - 1}")(x)
        x = keras.layers.Conv2D(width * factor, 5, 2, padding="same", name=f"conv_{i}")(x)
        maps = x
        x = keras.layers.GroupNormalization(1, name=f"norm_{i}")(x)
    features = keras.layers.Reshape((math.prod(maps.shape[1:]),), dtype="float32", name=FEATURES)(maps)
    x = keras.layers.Flatten(name="flatten")(keras.layers.ReLU(name="relu_4")(x))
    x = keras.layers.Dense(16 * width, name="dense")(x)
    x = keras.layers.ReLU(name="relu")(keras.layers.LayerNormalization(name="norm")(x))
    logit = keras.layers.Dense(1, dtype="float32", name=LOGIT)(x)
    return keras.Model(images, {FEATURES: features, LOGIT: logit}, name="discriminator")


def of_patches(image_shape: tuple[int, int, int], width: int, depth: int) -> keras.Model:
    """Return the PatchGAN of Isola et al. (2017, appendix 6.1.2): a logit, `[batch, h, w, 1]`, for patches of an image.

    Its 4×4 convolutions have `width`, 2, 4 and then 8 times as many filters. The first `depth` of them halve the maps;
    3 make it the published one, whose patches are of 70×70 pixels.
    """
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Conv2D(width, 4, 2, padding="same", name="conv_1")(images)
    for i in range(2, depth + 2):
        x = keras.layers.LeakyReLU(SLOPE, name=f"leaky_relu_{i - 1}")(x)
        filters, stride = width * min(2 ** (i - 1), 8), 2 if i <= depth else 1
        x = keras.layers.Conv2D(filters, 4, stride, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = keras.layers.GroupNormalization(1, name=f"norm_{i}")(x)
    x = keras.layers.LeakyReLU(SLOPE, name=f"leaky_relu_{depth + 1}")(x)
    logits = keras.layers.Conv2D(1, 4, padding="same", dtype="float32", name=LOGIT)(x)
    return keras.Model(images, logits, name="discriminator")


def cross_entropy(real: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
    """Return the mean of −log(probability of what is true), "real" of real ones and "not" of the others: a scalar.

    It is least, for densities p of what is real and q of what is generated, where the logit is log p − log q
    (Goodfellow et al., 2014, proposition 1).
    """
    return 0.5 * (tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(generated)))


def hinge(real: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
    """Return the mean of how far logits are from 1, or −1, on the wrong side (Lim & Ye, 2017): a scalar."""
    return 0.5 * (tf.reduce_mean(tf.nn.relu(1 - real)) + tf.reduce_mean(tf.nn.relu(1 + generated)))


def non_saturating(generated: tf.Tensor) -> tf.Tensor:
    """Return the mean of −log(probability that it is real), which the opponent minimises: a scalar.

    Its gradient does not vanish where the discriminator is sure (Goodfellow et al., 2014, section 3).
    """
    return tf.reduce_mean(tf.nn.softplus(-generated))
