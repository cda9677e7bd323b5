"""What the custom operations take, and what they compute, in TensorFlow's own."""

from collections.abc import Sequence

import tensorflow as tf

LANES = 16  # what channels must be a multiple of; RequireLanes
SIDE = 3  # of the kernels between images and maps; kSide
IMAGE_CHANNELS = (1, 3)
CONVOLUTION_STRIDES = (1, 2)  # of the custom convolutions


def normalized_leaky_relu(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, slope: float) -> tf.Tensor:
    """Return LeakyReLU of batch-normalised `x` `[batch, height, width, channels]`."""
    # Not `tf.nn.moments`: it lets no gradient through the mean in the variance, so that second derivatives are wrong.
    mean = tf.reduce_mean(x, axis=[0, 1, 2])
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axis=[0, 1, 2])
    return tf.nn.leaky_relu((x - mean) * tf.math.rsqrt(variance + epsilon) * gamma + beta, slope)


def convolved(images: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Return maps of images, with "same" padding."""
    return tf.nn.conv2d(images, kernel, stride, "SAME")


def patch_sums(x: tf.Tensor, pivot: tf.Tensor, kernel: Sequence[int], strides: Sequence[int]) -> tf.Tensor:
    """Return the sums `[n + 1, n + 1]` of the products of (p − pivot, 1), over the patches p of `x`."""
    rows, columns, channels = kernel[:3]
    n = rows * columns * channels
    pick = tf.reshape(tf.eye(n, n + 1), [rows, columns, channels, n + 1])  # whose convolution is the patches, and 0
    offsets = tf.concat([tf.fill([n], -pivot), [1.0]], axis=0)
    patches = tf.reshape(tf.nn.conv2d(x, pick, strides, "SAME") + offsets, [-1, n + 1])
    return tf.matmul(patches, patches, transpose_a=True)
