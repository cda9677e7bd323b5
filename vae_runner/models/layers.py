"""Layers that more than one network is made of."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

BATCH_NORM_EPSILON = 1e-3
MAX_SPANNING_LATENT = 31  # up to here an affine map works on fewer rows than any usual batch has
MAX_FOLDED_PATCH = 12  # numbers in what a kernel sees, up to which their moments cost less than those of the outputs
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
        """The same with the moments of all replicas' images."""
        pivot = tf.convert_to_tensor(self.moving_mean)
        outputs, mean, variance = _normalized_over_replicas(inputs, self.gamma, self.beta, pivot, self.epsilon)
        self._average(mean, variance)
        return outputs

    def _average(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
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


class Joined(keras.layers.Layer):
    """Layers that are computed together, in another way than one by one, with the same result.

    `plain` puts the layers themselves back.
    """

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
        if not training or not norm.trainable or norm.synchronized or self.compute_dtype != "float32":
            return self.one_by_one(inputs)
        kernel = tf.convert_to_tensor(convolution.kernel)
        weights = tf.reshape(kernel, [-1, kernel.shape[-1]])
        center, covariance = _patch_moments(inputs, kernel.shape, convolution.strides)
        mean = tf.linalg.matvec(weights, center, transpose_a=True)
        variance = tf.maximum(tf.reduce_sum(weights * tf.matmul(covariance, weights), axis=0), 0.0)
        norm._average(mean, variance)
        scale = norm.gamma * tf.math.rsqrt(variance + norm.epsilon)
        return _convolved(
            inputs, kernel * scale, norm.beta - mean * scale, convolution.strides, activation.negative_slope
        )


def _patch_moments(x: tf.Tensor, kernel: Sequence[int], strides: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean `[n]` and covariance `[n, n]` of the patches of `x` that a kernel of this shape sees, n numbers each."""
    n = math.prod(kernel[:3])
    # Without it the covariance would be a difference of large numbers where all pixels are alike.
    pivot = tf.reduce_mean(x)
    pick = tf.reshape(tf.eye(n, n + 1), [*kernel[:3], n + 1])  # a convolution that yields the patches, and 1
    patches = tf.nn.conv2d(x, pick, strides, "SAME") + tf.concat([tf.fill([n], -pivot), [1.0]], axis=0)
    patches = tf.reshape(patches, [-1, n + 1])
    sums = tf.matmul(patches, patches, transpose_a=True)
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


def heads(features: Any, latent: int, parameters: tuple[str, ...]) -> Any:
    """One dense layer a posterior parameter, always in float32: log_var is exponentiated."""
    in_order = sorted(parameters)  # as Keras orders outputs, so that the weights are in the order of `plain`'s
    layers = [keras.layers.Dense(latent, dtype="float32", name=name) for name in in_order]
    return Heads(layers, dtype="float32", name="heads")(features)
