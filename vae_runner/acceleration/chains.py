"""Layers in a row or side by side, computed together."""

import math
from collections.abc import Sequence
from types import ModuleType

import keras
import tensorflow as tf

from vae_runner.acceleration.custom_ops.reference import IMAGE_CHANNELS, LANES, SIDE, patch_sums
from vae_runner.acceleration.fused import (
    Fused,
    Gradient,
    is_linear,
    is_normalized_by_replica,
    is_plain_normalization,
    is_same_convolution,
)
from vae_runner.acceleration.image_convolutions import image_gradient
from vae_runner.acceleration.single_layers import accelerated, move_averages, scale_and_offset

MAX_SPANNING_LATENT = 31  # up to here an affine map works on fewer rows than any usual batch has
MAX_FOLDED_PATCH = 12  # numbers in what a kernel sees, up to which their moments cost less than those of the outputs
AFFINE_LAYERS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose)


class Chain(Fused):
    """Layers in a row, with a faster view of each, for where they are computed one by one."""

    def __init__(self, layers: Sequence[keras.layers.Layer], custom_ops: ModuleType | None = None) -> None:
        super().__init__(layers, custom_ops)
        self.steps = [accelerated(layer, custom_ops) for layer in layers]

    def one_by_one(self, x: tf.Tensor) -> tf.Tensor:
        """Return the output of the layers, one after the other; Keras passes on to each whether it is in training."""
        for step in self.steps:
            x = step(x)
        return x


class NormalizedLeakyReLU(Chain):
    """Batch normalisation and LeakyReLU, in training as one custom operation."""

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match batch normalisation of a multiple of 16 channels, and LeakyReLU."""
        return 2 * (custom_ops is not None and _begins_normalized_leaky_relu(chain))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the output for maps `[batch, height, width, channels]`; in training, update the moving averages."""
        norm, activation = self.layers
        if not training:
            return self.one_by_one(inputs)
        gamma, beta = scale_and_offset(norm, inputs.shape[-1])
        outputs, mean, variance = self.custom_ops.vae_runner_normalized_leaky_relu(
            x=inputs, gamma=gamma, beta=beta, epsilon=norm.epsilon, slope=activation.negative_slope
        )
        move_averages(norm, mean, variance)
        return outputs


class ImageHead(Chain):
    """Batch normalisation, LeakyReLU and the transposed convolution of stride 1 that makes images.

    In training it is a custom operation, which keeps no maps between them.
    """

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match a normalisation, LeakyReLU, and a transposed convolution to one or three channels."""
        if custom_ops is None or len(chain) < 3 or type(chain[2]) is not keras.layers.Conv2DTranspose:
            return 0
        convolution = chain[2]
        makes_images = (
            is_same_convolution(convolution)
            and convolution.strides == (1, 1)
            and convolution.kernel_size == (SIDE, SIDE)
            and convolution.filters in IMAGE_CHANNELS
            and convolution.use_bias
            and convolution.compute_dtype == "float32"
        )
        return 3 * (makes_images and _begins_normalized_leaky_relu(chain))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the images for maps `[batch, height, width, channels]`; in training, update the moving averages."""
        norm, activation, convolution = self.layers
        if not training:
            return self.one_by_one(inputs)
        gamma, beta = scale_and_offset(norm, inputs.shape[-1])
        images, mean, variance = self.custom_ops.vae_runner_image_head(
            x=inputs, gamma=gamma, beta=beta, kernel=convolution.kernel, bias=convolution.bias, epsilon=norm.epsilon,
            slope=activation.negative_slope,
        )  # fmt: skip
        move_averages(norm, mean, variance)
        return convolution.activation(images)


class AffineMap(Chain):
    """Layers that together are an affine map f of z, computed from its values at a few points.

    f(z) = f(0) + Σᵢ zᵢ (f(eᵢ) − f(0)), with eᵢ the unit vectors: the layers and their gradients work on latent + 1
    rows, whatever the batch. Only in float32: with fewer bits the differences would be far from the layers' outputs.
    """

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match a dense layer of few inputs and the affine layers after it, if there is a convolution among them."""
        shape = chain[0].input.shape
        if type(chain[0]) is not keras.layers.Dense or len(shape) != 2 or shape[-1] > MAX_SPANNING_LATENT:
            return 0
        count = next((i for i, layer in enumerate(chain) if not _is_affine(layer)), len(chain))
        has_convolution = any(type(layer) in AFFINE_LAYERS[1:] for layer in chain[:count])
        return count * (has_convolution and all(layer.compute_dtype == "float32" for layer in chain[:count]))

    def call(self, z: tf.Tensor) -> tf.Tensor:
        """Return the output for latents `[batch, latent]`: `[batch, …]`."""
        latent = z.shape[-1]
        points = tf.concat([tf.zeros([1, latent], z.dtype), tf.eye(latent, dtype=z.dtype)], axis=0)
        origin, units = tf.split(self.one_by_one(points), [1, latent])
        return origin + tf.tensordot(z, units - origin, axes=1)


class FoldedConvolution(Fused):
    """A convolution of images, its batch normalisation and its LeakyReLU, as a single convolution.

    With known moments the normalisation becomes a factor of the kernel, and a bias. In training they follow from those
    of the patches p, which are few numbers where images are grey: the convolution is linear, y = w·p, so the mean is
    w·⟨p⟩ and the variance wᵀ cov(p) w.
    """

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match a convolution without a bias of few inputs a pixel, its normalisation, and LeakyReLU."""
        if len(chain) < 3 or type(chain[0]) is not keras.layers.Conv2D or not _is_normalized_leaky_relu(chain[1:3]):
            return 0
        layer = chain[0]
        patch = math.prod(layer.kernel_size) * layer.input.shape[-1]
        return 3 * (
            patch <= MAX_FOLDED_PATCH and is_same_convolution(layer) and is_linear(layer) and not layer.use_bias
        )

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the output for images `[batch, height, width, channels]`; in training, update the moving averages."""
        convolution, norm, activation = self.layers
        kernel = tf.convert_to_tensor(convolution.kernel)
        (stride, _) = convolution.strides
        fits = kernel.shape[:3] == (SIDE, SIDE, 1) and convolution.filters % LANES == 0
        ops = self.custom_ops if fits else None
        mean, variance = tf.convert_to_tensor(norm.moving_mean), tf.convert_to_tensor(norm.moving_variance)
        if training:
            weights = tf.reshape(kernel, [-1, kernel.shape[-1]])
            center, covariance = _patch_moments(inputs, kernel.shape, convolution.strides, ops)
            mean = tf.linalg.matvec(weights, center, transpose_a=True)
            variance = tf.maximum(tf.reduce_sum(weights * tf.matmul(covariance, weights), axis=0), 0.0)
            move_averages(norm, mean, variance)
        gamma, beta = scale_and_offset(norm, kernel.shape[-1])
        scale = gamma * tf.math.rsqrt(variance + norm.epsilon)
        kernel, bias, slope = kernel * scale, beta - mean * scale, activation.negative_slope
        if ops is None:
            return _convolved(inputs, kernel, bias, convolution.strides, slope)
        return ops.vae_runner_convolved_grey(images=inputs, kernel=kernel, bias=bias, stride=stride, slope=slope)


def _patch_moments(
    x: tf.Tensor, kernel: Sequence[int], strides: Sequence[int], ops: ModuleType | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean `[n]` and covariance `[n, n]` of the patches, n numbers each, that such a kernel sees of `x`."""
    n = math.prod(kernel[:3])
    # Without a pivot the covariance would be a difference of large numbers where all pixels are nearly equal.
    pivot = tf.reduce_mean(x)
    if ops is None:
        sums = patch_sums(x, pivot, kernel, strides)
    else:
        sums = ops.vae_runner_patch_sums(images=x, pivot=pivot, stride=strides[0])
    moments = sums / sums[n, n]
    distance = moments[n, :n]
    return distance + pivot, moments[:n, :n] - distance[:, tf.newaxis] * distance


def _convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, strides: Sequence[int], slope: float) -> tf.Tensor:
    """Return the LeakyReLU of a convolution with a bias, which keeps only its outputs for the gradient.

    The gradient takes the sign from the outputs. That of the bias is computed with the kernel's, as that of an input
    channel of ones.
    """

    @tf.custom_gradient
    def convolved(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = tf.nn.leaky_relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, "SAME"), bias), slope)

        def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dy = tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=slope)
            rows, columns, channels, filters = kernel.shape
            with_ones = tf.concat([x, tf.ones_like(x[..., :1])], axis=-1)
            sizes = [rows, columns, channels + 1, filters]
            dkernel = tf.raw_ops.Conv2DBackpropFilter(
                input=with_ones, filter_sizes=sizes, out_backprop=dy, strides=[1, *strides, 1], padding="SAME"
            )
            inside = (rows - 1) // 2, (columns - 1) // 2  # the tap of the kernel that is never outside the image
            dx = image_gradient(dy, kernel, x, strides[0])
            return dx, dkernel[:, :, :-1], dkernel[inside[0], inside[1], -1]

        return y, gradients

    return convolved(x, kernel, bias)


class ParallelDense(Fused):
    """Dense layers side by side on the same features, as one product."""

    @classmethod
    def fits(cls, layer: keras.layers.Layer) -> bool:
        """Return whether a layer may be one of those side by side."""
        return (
            type(layer) is keras.layers.Dense
            and is_linear(layer)
            and layer.use_bias
            and layer.compute_dtype == "float32"
            and len(layer.input.shape) == 2
        )

    def call(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the outputs for features `[batch, n]`, by the layers' names."""
        kernel = tf.concat([layer.kernel for layer in self.layers], axis=1)
        bias = tf.concat([layer.bias for layer in self.layers], axis=0)
        outputs = tf.nn.bias_add(tf.matmul(features, kernel), bias)
        parts = tf.split(outputs, [layer.units for layer in self.layers], axis=1)
        return {layer.name: part for layer, part in zip(self.layers, parts, strict=True)}


def _is_affine(layer: keras.layers.Layer) -> bool:
    if type(layer) in AFFINE_LAYERS:
        return is_linear(layer)
    return type(layer) in (keras.layers.Reshape, keras.layers.Flatten)


def _is_normalized_leaky_relu(chain: Sequence[keras.layers.Layer]) -> bool:
    return (
        len(chain) >= 2
        and is_plain_normalization(chain[0])
        and len(chain[0].input.shape) == 4
        and is_normalized_by_replica(chain[0])
        and type(chain[1]) is keras.layers.LeakyReLU
        and chain[1].compute_dtype == "float32"
    )


def _begins_normalized_leaky_relu(chain: Sequence[keras.layers.Layer]) -> bool:
    """Return whether the custom operations take the first two layers: for channels that are a multiple of `LANES`."""
    return _is_normalized_leaky_relu(chain) and chain[0].input.shape[-1] % LANES == 0


CHAINS = (AffineMap, FoldedConvolution, ImageHead, NormalizedLeakyReLU)
