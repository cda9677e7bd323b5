"""Single layers of Keras's, computed faster: normalisation, LeakyReLU and convolutions."""

from collections.abc import Sequence
from types import ModuleType

import keras
import tensorflow as tf

from vae_runner.acceleration.custom_ops.reference import CONVOLUTION_STRIDES, LANES, SIDE
from vae_runner.acceleration.fused import Fused, Gradient, is_plain_normalization, is_same_convolution
from vae_runner.acceleration.image_convolutions import conv2d_transpose_by_taps

MIN_WINOGRAD_SIDE = 3  # of maps: in smaller ones many products are of what lies beyond the edges
MAX_WINOGRAD_WIDTH = 256  # of maps: what is made of a row that is wider, a processor's cache does not hold
MAX_TAPPED_CHANNELS = 4  # of an image, to which a convolution is faster as one product and sums of shifted maps


class FusedBatchNormalization(Fused):
    """Batch normalisation over the last axis of images, by TensorFlow's fused operation.

    Keras 3 takes the moments and normalises in separate operations: in training they take more than twice as long on a
    CPU, and outside training their gradients go over the maps more often.
    """

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match batch normalisation of maps `[batch, height, width, channels]`."""
        norm = chain[0]
        return int(is_plain_normalization(norm) and len(norm.input.shape) == 4)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the normalised inputs; in training, update the moving averages."""
        (norm,) = self.layers
        takes_moments = training and norm.trainable
        # On a GPU that is to be deterministic the operation has no gradient where the moments are given.
        if not (takes_moments or self.custom_ops):
            return norm(inputs, training=training)
        gamma, beta = scale_and_offset(norm, inputs.shape[-1])
        if not takes_moments:
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs, scale=gamma, offset=beta, mean=norm.moving_mean, variance=norm.moving_variance,
                epsilon=norm.epsilon, is_training=False,
            ).y  # fmt: skip
        if norm.synchronized:
            pivot = tf.convert_to_tensor(norm.moving_mean)
            outputs, mean, variance = _normalized_over_replicas(inputs, gamma, beta, pivot, norm.epsilon)
        else:
            empty = tf.zeros([0])
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=norm.epsilon,
                exponential_avg_factor=1.0, is_training=True,
            )  # fmt: skip
            # The operation gives the unbiased variance, with n − 1 in place of n; Keras averages the biased one.
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
            variance *= (count - 1) / count
        move_averages(norm, mean, variance)
        return outputs


def scale_and_offset(norm: keras.layers.BatchNormalization, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return γ and β of a batch normalisation, float32 `[channels]`; ones and zeros where it has none."""
    gamma = norm.gamma if norm.scale else tf.ones([channels])
    beta = norm.beta if norm.center else tf.zeros([channels])
    return gamma, beta


def move_averages(norm: keras.layers.BatchNormalization, mean: tf.Tensor, variance: tf.Tensor) -> None:
    """Update the moving averages with the mean and the biased variance of a batch, each `[channels]`."""
    for average, value in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        average.assign(average * norm.momentum + value * (1 - norm.momentum))


def _normalized_over_replicas(
    inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, pivot: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return normalised `inputs`, and the mean and biased variance over all replicas, by the fused operations.

    In training these take one replica's moments only. So they compute these moments, and then normalise as outside
    training, with the moments of all replicas. The gradient of that lacks the moments' dependence on the inputs; the
    full one is (Ioffe & Szegedy, 2015, arXiv:1502.03167, section 3)

        dx = γ/σ (dy − ⟨dy⟩ − x̂ ⟨dy · x̂⟩),    ⟨⟩: the mean over all replicas' images and pixels.
    """
    replicas = tf.distribute.get_replica_context()
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)

    @tf.custom_gradient
    def normalized(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Gradient]:
        fused: dict[str, object] = {"scale": scale, "offset": offset, "epsilon": epsilon}
        empty = tf.zeros([0])
        _, local, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, mean=empty, variance=empty, exponential_avg_factor=1.0, is_training=True, **fused
        )
        # Distances are from a pivot near the mean, the same on all replicas: sums of squares from 0 would cancel.
        distance = local - pivot
        square = unbiased * (count - 1) / count + tf.square(distance)
        sums = tf.stack([count * distance, count * square, tf.fill(tf.shape(distance), count)])
        distances, squares, total = tf.unstack(replicas.all_reduce(tf.distribute.ReduceOp.SUM, sums))
        mean = pivot + distances / total
        variance = tf.maximum(squares / total - tf.square(distances / total), 0.0)
        outputs = tf.raw_ops.FusedBatchNormV3(x=x, mean=mean, variance=variance, is_training=False, **fused).y

        def gradients(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dx, dscale, doffset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=dy, x=x, scale=scale, reserve_space_1=mean, reserve_space_2=variance, reserve_space_3=empty,
                epsilon=epsilon, is_training=False,
            )  # fmt: skip
            of_scale, of_offset = tf.unstack(
                replicas.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([dscale, doffset])) / total
            )
            inverse = tf.math.rsqrt(variance + epsilon)
            slope = scale * tf.square(inverse) * of_scale
            constant = scale * inverse * of_offset - slope * mean
            return dx - tf.cast(tf.cast(x, slope.dtype) * slope + constant, dx.dtype), dscale, doffset

        return (outputs, mean, variance), gradients

    outputs, mean, variance = normalized(inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


class InPlaceLeakyReLU(Fused):
    """LeakyReLU, which may overwrite its input.

    The gradient needs the sign only, which the output has too. So nothing needs the input any more, and TensorFlow
    writes the output into its memory. Slopes below 0 would turn the sign; Keras refuses them.
    """

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match LeakyReLU of maps."""
        return int(type(chain[0]) is keras.layers.LeakyReLU and len(chain[0].input.shape) == 4)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the inputs where they are positive, else the slope times the inputs."""
        slope = self.layers[0].negative_slope

        @tf.custom_gradient
        def leaky_relu(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
            y = tf.nn.leaky_relu(x, slope)
            return y, lambda dy: tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=slope)

        return leaky_relu(inputs)


class TappedConv2DTranspose(Fused):
    """A transposed convolution of stride 1 to few channels, as `conv2d_transpose_by_taps` computes it."""

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match transposed convolutions of stride 1 from many channels to few."""
        layer = chain[0]
        return int(
            type(layer) is keras.layers.Conv2DTranspose
            and is_same_convolution(layer)
            and layer.strides == (1, 1)
            and layer.filters <= MAX_TAPPED_CHANNELS < layer.input.shape[-1]
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the activation of the transposed convolution of `inputs` `[batch, height, width, channels]`."""
        (layer,) = self.layers
        return _activated(layer, conv2d_transpose_by_taps(inputs, tf.convert_to_tensor(layer.kernel)))


class WinogradConv2D(Fused):
    """A 3×3 convolution of stride 1 or 2 by a custom operation, with fewer multiplications than taps."""

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match convolutions that the custom operation computes."""
        layer = chain[0]
        fits = type(layer) is keras.layers.Conv2D and custom_ops is not None
        return int(fits and _fits_winograd(layer))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the activation of the convolution of `inputs` `[batch, height, width, channels]`."""
        (layer,) = self.layers
        # The gradient needs their height and width.
        images = tf.ensure_shape(inputs, [None, *layer.input.shape[1:]])
        outputs = self.custom_ops.vae_runner_conv2d(images=images, kernel=layer.kernel, stride=layer.strides[0])
        return _activated(layer, outputs)


class WinogradConv2DTranspose(Fused):
    """A transposed 3×3 convolution of stride 1 or 2 by a custom operation, with fewer multiplications than taps."""

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Match transposed convolutions that the custom operation computes."""
        layer = chain[0]
        fits = type(layer) is keras.layers.Conv2DTranspose and custom_ops is not None
        return int(fits and _fits_winograd(layer))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the activation of the transposed convolution of `inputs` `[batch, height, width, channels]`."""
        (layer,) = self.layers
        (stride, _), (height, width) = layer.strides, layer.input.shape[1:3]
        outputs = self.custom_ops.vae_runner_conv2d_transpose(
            maps=inputs, kernel=layer.kernel, stride=stride, height=height * stride, width=width * stride
        )
        return _activated(layer, outputs)


def _activated(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    """Return what a layer makes of its product or convolution: its bias added, its activation taken."""
    return layer.activation(tf.nn.bias_add(outputs, layer.bias) if layer.use_bias else outputs)


def _fits_winograd(layer: keras.layers.Layer) -> bool:
    """Return whether the custom operations compute a layer's convolution, and with fewer multiplications than taps."""
    maps = layer.output if type(layer) is keras.layers.Conv2D else layer.input
    return (
        is_same_convolution(layer)
        and layer.strides[0] in CONVOLUTION_STRIDES
        and layer.kernel_size == (SIDE, SIDE)
        and layer.filters % LANES == 0
        and layer.input.shape[-1] % LANES == 0
        and None not in layer.input.shape[1:3]
        and min(maps.shape[1:3]) >= MIN_WINOGRAD_SIDE
        and maps.shape[2] <= MAX_WINOGRAD_WIDTH
        and layer.compute_dtype == "float32"
    )


SINGLE_LAYERS = (
    FusedBatchNormalization, InPlaceLeakyReLU, TappedConv2DTranspose, WinogradConv2D, WinogradConv2DTranspose,
)  # fmt: skip


def accelerated(layer: keras.layers.Layer, custom_ops: ModuleType | None) -> keras.layers.Layer:
    """Return a faster view of one layer, or the layer itself."""
    views = (cls.view([layer], custom_ops) for cls in SINGLE_LAYERS)
    return next((view for view in views if view is not None), layer)
