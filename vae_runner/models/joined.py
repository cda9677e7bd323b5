"""Layers that are computed together, in another way than one by one, with the same result."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from vae_runner.custom_ops import IMAGE_CHANNELS, LANES, SIDE
from vae_runner.custom_ops.reference import patch_sums

MAX_SPANNING_LATENT = 31  # up to here an affine map works on fewer rows than any usual batch has
MAX_FOLDED_PATCH = 12  # numbers in what a kernel sees, up to which their moments cost less than those of the outputs


class Joined(keras.layers.Layer):
    """Layers that are computed together, in another way than one by one, with the same result.

    `layers.plain` puts the layers themselves back. `custom_ops`, where a run uses them, come from `Hardware.prepare`.
    """

    custom_ops: Any = None

    def __init__(self, layers: Sequence[keras.layers.Layer], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layers = list(layers)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers in turn."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def one_by_one(self, x: Any) -> Any:
        """What the layers make of `x`, one after the other; Keras tells each whether it is in training."""
        for layer in self.layers:
            x = layer(x)
        return x

    def _normalizes_alone(self, norm: keras.layers.BatchNormalization) -> bool:
        """Whether a normalisation in training is one in float32 with the moments of this replica's images."""
        return norm.trainable and not norm.synchronized and self.compute_dtype == "float32"


class NormalizedLeakyReLU(Joined):
    """Batch normalisation and LeakyReLU; by a custom operation, in training, where there is one."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """What both make of `inputs` `[batch, height, width, channels]`; in training, the moving averages move."""
        norm, activation = self.layers
        fits = self.custom_ops is not None and inputs.shape[-1] % LANES == 0
        if not training or not fits or not self._normalizes_alone(norm):
            return self.one_by_one(inputs)
        outputs, mean, variance = self.custom_ops.vae_runner_normalized_leaky_relu(
            x=inputs, gamma=norm.gamma, beta=norm.beta, epsilon=norm.epsilon, slope=activation.negative_slope
        )
        norm.average(mean, variance)
        return outputs


class ImageHead(Joined):
    """Batch normalisation, LeakyReLU and the transposed convolution of stride 1 that makes images.

    By a custom operation, in training, where there is one: it keeps no maps between them.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images, of maps `[batch, height, width, channels]`; in training, the moving averages move."""
        norm, activation, convolution = self.layers
        fits = self.custom_ops is not None and inputs.shape[-1] % LANES == 0
        fits = fits and convolution.kernel_size == (SIDE, SIDE) and convolution.filters in IMAGE_CHANNELS
        if not training or not fits or not self._normalizes_alone(norm):
            return self.one_by_one(inputs)
        images, mean, variance = self.custom_ops.vae_runner_image_head(
            x=inputs, gamma=norm.gamma, beta=norm.beta, kernel=convolution.kernel, bias=convolution.bias,
            epsilon=norm.epsilon, slope=activation.negative_slope,
        )  # fmt: skip
        norm.average(mean, variance)
        return convolution.activation(images)


class AffineMap(Joined):
    """Layers that one after the other make an affine map f of z, computed from what they make of a few points.

    f(z) = f(0) + Σᵢ zᵢ (f(eᵢ) − f(0)), with eᵢ the unit vectors: the layers work on latent + 1 rows, whatever the
    batch, and their gradients too. For two latent dimensions that is nearly nothing. In float32 also where
    the network is not: differences of rounded numbers would be far off what the layers themselves make.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], **arguments: Any) -> None:
        super().__init__(layers, dtype="float32", **arguments)
        for layer in layers:
            layer.dtype_policy = self.dtype_policy

    def call(self, z: tf.Tensor) -> tf.Tensor:
        """What the layers make of z `[batch, latent]`: `[batch, …]`."""
        latent = z.shape[-1]
        points = tf.concat([tf.zeros([1, latent], z.dtype), tf.eye(latent, dtype=z.dtype)], axis=0)
        points = self.one_by_one(points)
        origin, units = points[:1], points[1:]
        return origin + tf.tensordot(z, units - origin, axes=1)


class FoldedBlock(Joined):
    """A convolution of images, its batch normalisation and its LeakyReLU, in training as a single convolution.

    The convolution is linear, so the moments of its outputs follow from those of the patches that it sees, which are
    few numbers where images are grey: of y = w·p, the mean is w·⟨p⟩ and the variance wᵀ cov(p) w. With them
    the normalisation goes into the kernel and a bias.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The block's outputs for images `[batch, height, width, channels]`; in training, the moving averages move."""
        convolution, norm, activation = self.layers
        if not training or not self._normalizes_alone(norm):
            return self.one_by_one(inputs)
        kernel = tf.convert_to_tensor(convolution.kernel)
        (stride, other) = convolution.strides
        fits = kernel.shape[:3] == (SIDE, SIDE, 1) and stride == other and convolution.filters % LANES == 0
        ops = self.custom_ops if fits else None
        weights = tf.reshape(kernel, [-1, kernel.shape[-1]])
        center, covariance = _patch_moments(inputs, kernel.shape, convolution.strides, ops)
        mean = tf.linalg.matvec(weights, center, transpose_a=True)
        variance = tf.maximum(tf.reduce_sum(weights * tf.matmul(covariance, weights), axis=0), 0.0)
        norm.average(mean, variance)
        scale = norm.gamma * tf.math.rsqrt(variance + norm.epsilon)
        kernel, bias, slope = kernel * scale, norm.beta - mean * scale, activation.negative_slope
        if ops is None:
            return _convolved(inputs, kernel, bias, convolution.strides, slope)
        return ops.vae_runner_convolved_grey(images=inputs, kernel=kernel, bias=bias, stride=stride, slope=slope)


def _patch_moments(
    x: tf.Tensor, kernel: Sequence[int], strides: Sequence[int], ops: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean `[n]` and covariance `[n, n]` of the patches of `x` that a kernel of this shape sees, n numbers each."""
    n = math.prod(kernel[:3])
    # Without it the covariance would be a difference of large numbers where all pixels are alike.
    pivot = tf.reduce_mean(x)
    if ops is None:
        sums = patch_sums(x, pivot, kernel, strides)
    else:
        sums = ops.vae_runner_patch_sums(images=x, pivot=pivot, stride=strides[0])
    moments = sums / sums[n, n]
    distance = moments[n, :n]
    return distance + pivot, moments[:n, :n] - distance[:, tf.newaxis] * distance


def _convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, strides: Sequence[int], slope: float) -> tf.Tensor:
    """Convolution, bias and LeakyReLU, which TensorFlow does as one operation where nothing else needs what is between.

    So the gradient takes the sign from the outputs; and that of the bias comes with the kernel's, as that of a channel
    of ones.
    """

    @tf.custom_gradient
    def convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = tf.nn.leaky_relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, "SAME"), bias), slope)

        def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dy = tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=slope)
            rows, columns, channels, filters = kernel.shape
            steps: dict[str, Any] = {"out_backprop": dy, "strides": [1, *strides, 1], "padding": "SAME"}
            dx = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, **steps)
            with_ones = tf.concat([x, tf.ones_like(x[..., :1])], axis=-1)
            sizes = [rows, columns, channels + 1, filters]
            dkernel = tf.raw_ops.Conv2DBackpropFilter(input=with_ones, filter_sizes=sizes, **steps)
            inside = (rows - 1) // 2, (columns - 1) // 2  # the tap of the kernel that never falls beside the image
            return dx, dkernel[:, :, :-1], dkernel[inside[0], inside[1], -1]

        return y, gradients

    return convolved(x, kernel, bias)


class Heads(Joined):
    """Dense layers side by side on the same features, as one product."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build each layer."""
        for layer in self.layers:
            layer.build(input_shape)

    def one_by_one(self, x: Any) -> Any:
        """What each layer makes of `x`, by its name."""
        return {layer.name: layer(x) for layer in self.layers}

    def call(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """What each layer makes of the features `[batch, n]`, by its name."""
        kernel = tf.concat([layer.kernel for layer in self.layers], axis=1)
        bias = tf.concat([layer.bias for layer in self.layers], axis=0)
        outputs = tf.split(tf.nn.bias_add(tf.matmul(features, kernel), bias), len(self.layers), axis=1)
        return {layer.name: output for layer, output in zip(self.layers, outputs, strict=True)}


def heads(features: Any, latent: int, parameters: tuple[str, ...]) -> Any:
    """One dense layer a posterior parameter, always in float32: log_var is exponentiated."""
    in_order = sorted(parameters)  # as Keras orders outputs, so that the weights are in the order of `plain`'s
    layers = [keras.layers.Dense(latent, dtype="float32", name=name) for name in in_order]
    return Heads(layers, dtype="float32", name="heads")(features)
