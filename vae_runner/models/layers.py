"""Layers that more than one network is made of."""

from typing import Any

import keras
import tensorflow as tf

from vae_runner.custom_ops import LANES, SIDE
from vae_runner.models.joined import Joined

BATCH_NORM_EPSILON = 1e-3
MAX_TAPPED_CHANNELS = 4  # of an image, to which a convolution is faster as one product and sums of shifted maps


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation over the last axis of images, computed by TensorFlow's fused operation.

    The numbers are the same; in training it is more than twice as fast on a CPU, because Keras 3 takes the moments and
    normalises in separate operations. `plain` turns a network of these back into one of Keras's own.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalised `inputs` `[batch, height, width, channels]`; in training, the moving averages move."""
        if not (training and self.trainable and len(inputs.shape) == 4):
            return super().call(inputs, training=training, mask=mask)
        if self.synchronized:
            return self._call_synchronized(inputs)
        empty = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=empty, variance=empty, epsilon=self.epsilon,
            exponential_avg_factor=1.0, is_training=True,
        )  # fmt: skip
        # The operation gives the unbiased variance, with n − 1 in place of n; Keras averages the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        variance *= (count - 1) / count
        self.average(mean, variance)
        return outputs

    def _call_synchronized(self, inputs: tf.Tensor) -> tf.Tensor:
        """The same with the moments of all replicas' images."""
        pivot = tf.convert_to_tensor(self.moving_mean)
        outputs, mean, variance = _normalized_over_replicas(inputs, self.gamma, self.beta, pivot, self.epsilon)
        self.average(mean, variance)
        return outputs

    def average(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Let the moving averages move towards the moments of a batch; the variance is the biased one."""
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))


def _normalized_over_replicas(
    inputs: tf.Tensor, gamma: Any, beta: Any, pivot: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalised `inputs`, and the mean and biased variance over all replicas, by the fused operations.

    In training these know one replica's moments only, so they give the moments, and normalise as if not training, with
    those of all replicas. The gradient of that lacks what the moments owe to the inputs. With it, it is

        dx = γ/σ (dy − ⟨dy⟩ − x̂ ⟨dy · x̂⟩),    ⟨⟩: the mean over all replicas' images and pixels,

    as Ioffe & Szegedy have it (2015, arXiv:1502.03167, section 3).
    """
    replicas = tf.distribute.get_replica_context()
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)

    @tf.custom_gradient
    def normalized(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[Any, Any]:
        fused: dict[str, Any] = {"scale": scale, "offset": offset, "epsilon": epsilon}
        empty = tf.zeros([0])
        _, local, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, mean=empty, variance=empty, exponential_avg_factor=1.0, is_training=True, **fused
        )
        # Distances from a pivot near the mean, which all replicas know: sums of squares from 0 would cancel.
        distance = local - pivot
        square = unbiased * (count - 1) / count + tf.square(distance)
        sums = tf.stack([count * distance, count * square, tf.fill(tf.shape(distance), count)])
        distances, squares, total = tf.unstack(replicas.all_reduce(tf.distribute.ReduceOp.SUM, sums))
        mean = pivot + distances / total
        variance = tf.maximum(squares / total - tf.square(distances / total), 0.0)
        outputs = tf.raw_ops.FusedBatchNormV3(x=x, mean=mean, variance=variance, is_training=False, **fused).y

        def gradients(dy: tf.Tensor, *_: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
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


class InPlaceLeakyReLU(keras.layers.LeakyReLU):
    """Keras's LeakyReLU, which may overwrite its input.

    The gradient asks for the sign only, which the output has too: nothing needs the input any more, and TensorFlow
    writes the output where the input was. Slopes below 0 would turn the sign; Keras refuses them.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`inputs` where positive, else the slope times `inputs`."""

        @tf.custom_gradient
        def leaky_relu(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
            y = tf.nn.leaky_relu(x, self.negative_slope)
            return y, lambda dy: tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=self.negative_slope)

        return leaky_relu(inputs)


class TappedConv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras's transposed convolution of stride 1 to few channels, as one matrix product and sums of shifted maps.

    A convolution spreads its work over the output channels, of which an image has one or three. The product computes
    every tap of the kernel as a channel of its own; the gradients are those of the convolution.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The activation of the transposed convolution of `inputs` `[batch, height, width, channels]`."""
        return self.activation(tf.nn.bias_add(_tapped(inputs, tf.convert_to_tensor(self.kernel)), self.bias))


@tf.custom_gradient
def _tapped(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The transposed convolution of stride 1 and "same" padding; `kernel` is `[rows, columns, out, in]`."""
    rows, columns, out, _ = kernel.shape
    height, width = x.shape[1:3]
    taps = tf.tensordot(x, tf.reshape(kernel, [rows * columns * out, -1]), axes=[[3], [1]])
    before = [rows // 2, columns // 2]  # how far the first tap moves a map down and to the right
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


class StridedConv2D(keras.layers.Conv2D):
    """Keras's convolution; its gradient with respect to its inputs is a custom operation, where there is one."""

    custom_ops: Any = None  # from `Hardware.prepare`

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        """The convolution of `inputs` `[batch, height, width, channels]`, without bias and activation."""
        if self.custom_ops is None or not _is_usual(self, inputs, inputs.shape[-1]):
            return super().convolution_op(inputs, kernel)
        (stride, _), (height, width) = self.strides, inputs.shape[1:3]

        @tf.custom_gradient
        def convolution(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                dx = self.custom_ops.vae_runner_conv2d_transpose(
                    maps=dy, kernel=kernel, stride=stride, height=height, width=width
                )
                dkernel = tf.raw_ops.Conv2DBackpropFilter(
                    input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=[1, stride, stride, 1], padding="SAME"
                )
                return dx, dkernel

            return tf.nn.conv2d(x, kernel, stride, "SAME"), gradients

        return convolution(inputs, tf.convert_to_tensor(kernel))


class StridedConv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras's transposed convolution; by a custom operation, where there is one."""

    custom_ops: Any = None  # from `Hardware.prepare`

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The activation of the transposed convolution of `inputs` `[batch, height, width, channels]`."""
        if self.custom_ops is None or self.output_padding is not None or not _is_usual(self, inputs, self.filters):
            return super().call(inputs)
        (stride, _), (height, width) = self.strides, inputs.shape[1:3]
        outputs = self.custom_ops.vae_runner_conv2d_transpose(
            maps=inputs, kernel=self.kernel, stride=stride, height=height * stride, width=width * stride
        )
        return self.activation(tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs)


def _is_usual(layer: Any, inputs: tf.Tensor, channels: int) -> bool:
    """Whether the custom transposed convolution to so many channels computes what this layer needs."""
    kernel = (*layer.kernel.shape[:2], channels) == (SIDE, SIDE, layer.kernel.shape[2]) and channels % LANES == 0
    steps = layer.strides[0] == layer.strides[1] and layer.padding == "same" and layer.dilation_rate == (1, 1)
    images = layer.data_format == "channels_last" and None not in inputs.shape[1:3]
    return kernel and steps and images and layer.compute_dtype == "float32"


def normalization(kind: str, momentum: float, name: str) -> list[keras.layers.Layer]:
    """The layers, none or one, of `kind`: "batch", "layer" or "none"."""
    if kind == "batch":
        return [FusedBatchNormalization(momentum=momentum, epsilon=BATCH_NORM_EPSILON, name=name)]
    return [keras.layers.LayerNormalization(name=name)] if kind == "layer" else []


KERAS_OWN: dict[type, Any] = {
    FusedBatchNormalization: keras.layers.BatchNormalization,
    InPlaceLeakyReLU: keras.layers.LeakyReLU,
    TappedConv2DTranspose: keras.layers.Conv2DTranspose,
    StridedConv2D: keras.layers.Conv2D,
    StridedConv2DTranspose: keras.layers.Conv2DTranspose,
}


def plain(model: keras.Model) -> keras.Model:
    """The same model, weights included, of Keras's own layers alone: it loads where vae_runner is not installed."""

    def own(layer: keras.layers.Layer) -> Any:
        if isinstance(layer, Joined):
            return type(layer)([own(part) for part in layer.layers], name=layer.name)
        return KERAS_OWN.get(type(layer), type(layer)).from_config(layer.get_config())

    def apply(layer: keras.layers.Layer, x: Any, **arguments: Any) -> Any:
        return layer.one_by_one(x) if isinstance(layer, Joined) else layer(x, **arguments)

    copy = keras.models.clone_model(model, clone_function=own, call_function=apply)
    for layer in parts(model):
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def parts(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model, those that are computed together one by one."""
    return [part for layer in model.layers for part in (layer.layers if isinstance(layer, Joined) else [layer])]
