"""Convolutions that make images of maps, as a matrix product and sums of shifted maps.

A convolution distributes its work over the output channels, of which an image has one or three. The product has every
tap of the kernel as a channel of its own.
"""

import tensorflow as tf

from vae_runner.acceleration.fused import Gradient


@tf.custom_gradient
def conv2d_transpose_by_taps(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Return the transposed convolution of stride 1 and "same" padding; `kernel` is `[rows, columns, out, in]`.

    The gradients are those of the convolution.
    """
    rows, columns, out, _ = kernel.shape
    height, width = x.shape[1:3]
    taps = tf.tensordot(x, tf.reshape(kernel, [rows * columns * out, -1]), axes=[[3], [1]])
    before = [rows // 2, columns // 2]  # how far the first tap shifts a map down and to the right
    after = [(rows - 1) // 2, (columns - 1) // 2]
    taps = tf.pad(taps, [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
    maps = []
    for row in range(rows):
        for column in range(columns):
            top, left, channel = rows - 1 - row, columns - 1 - column, (row * columns + column) * out
            maps.append(taps[:, top : top + height, left : left + width, channel : channel + out])

    def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        dkernel = tf.raw_ops.Conv2DBackpropFilter(
            input=dy, filter_sizes=kernel.shape, out_backprop=x, strides=[1, 1, 1, 1], padding="SAME"
        )
        return tf.nn.conv2d(dy, kernel, 1, "SAME"), dkernel

    return tf.add_n(maps), gradients


def image_gradient(dmaps: tf.Tensor, kernel: tf.Tensor, images: tf.Tensor, stride: int) -> tf.Tensor:
    """Return the gradient with respect to `images`, of few channels, of their convolution with "same" padding."""
    if stride == 1 and None not in dmaps.shape[1:3]:
        return conv2d_transpose_by_taps(dmaps, kernel)
    return tf.nn.conv2d_transpose(dmaps, kernel, tf.shape(images), stride, "SAME")
