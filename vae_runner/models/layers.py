"""Layers that more than one network is made of."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

BATCH_NORM_EPSILON = 1e-3
MAX_SPANNING_LATENT = 31  # up to here an affine map works on fewer rows than any usual batch has
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
        self._average(mean, variance)
        return outputs

    def _call_synchronized(self, inputs: tf.Tensor) -> tf.Tensor:
        """The same with the moments of all replicas' images.

        They are sums of distances from the moving mean, which all replicas know: those from 0 would cancel.
        """
        replicas = tf.distribute.get_replica_context()
        x = tf.cast(inputs, tf.float32)
        pivot = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean))
        sums = [tf.reduce_sum(power(x - pivot), axis=[0, 1, 2]) for power in (tf.identity, tf.square)]
        count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
        total = replicas.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([*sums, tf.fill(tf.shape(sums[0]), count)]))
        distance, square = total[0] / total[2], total[1] / total[2]
        mean, variance = pivot + distance, tf.maximum(square - tf.square(distance), 0.0)
        self._average(mean, variance)
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast((x - mean) * scale + self.beta, inputs.dtype)

    def _average(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))


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


class AffineMap(keras.layers.Layer):
    """Layers that one after the other make an affine map f of z, computed from what they make of a few points.

    f(z) = f(0) + Σᵢ zᵢ (f(eᵢ) − f(0)), with eᵢ the unit vectors: the layers work on latent + 1 rows, whatever the
    batch, and their gradients too. For two latent dimensions that is nearly nothing. `plain` puts the
    layers themselves back.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layers = list(layers)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layers in turn."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, z: tf.Tensor) -> tf.Tensor:
        """What the layers make of z `[batch, latent]`: `[batch, …]`."""
        latent = z.shape[-1]
        points = tf.concat([tf.zeros([1, latent], z.dtype), tf.eye(latent, dtype=z.dtype)], axis=0)
        for layer in self.layers:
            points = layer(points)
        origin, units = points[:1], points[1:]
        return origin + tf.tensordot(z, units - origin, axes=1)


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


def normalization(kind: str, momentum: float, name: str) -> list[keras.layers.Layer]:
    """The layers, none or one, of `kind`: "batch", "layer" or "none"."""
    if kind == "batch":
        return [FusedBatchNormalization(momentum=momentum, epsilon=BATCH_NORM_EPSILON, name=name)]
    return [keras.layers.LayerNormalization(name=name)] if kind == "layer" else []


KERAS_OWN: dict[type, Any] = {
    FusedBatchNormalization: keras.layers.BatchNormalization,
    InPlaceLeakyReLU: keras.layers.LeakyReLU,
    TappedConv2DTranspose: keras.layers.Conv2DTranspose,
}


def plain(model: keras.Model) -> keras.Model:
    """The same model, weights included, of Keras's own layers alone: it loads where vae_runner is not installed."""

    def own(layer: keras.layers.Layer) -> Any:
        if isinstance(layer, AffineMap):
            return AffineMap([own(part) for part in layer.layers], name=layer.name)
        return KERAS_OWN.get(type(layer), type(layer)).from_config(layer.get_config())

    def apply(layer: keras.layers.Layer, x: Any, **arguments: Any) -> Any:
        for part in layer.layers if isinstance(layer, AffineMap) else [layer]:
            x = part(x, **arguments)
        return x

    copy = keras.models.clone_model(model, clone_function=own, call_function=apply)
    copy.set_weights(model.get_weights())
    return copy


def heads(features: Any, latent: int, parameters: tuple[str, ...]) -> dict[str, Any]:
    """One dense layer a posterior parameter, always in float32: log_var is exponentiated."""
    return {name: keras.layers.Dense(latent, dtype="float32", name=name)(features) for name in parameters}
