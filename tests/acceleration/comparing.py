"""Whether a network and its faster view compute the same."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_runner.acceleration.custom_ops import compiling, loading
from vae_runner.acceleration.custom_ops.compiling import UnavailableError


def load_custom_ops() -> Any:
    """The custom operations; without a compiler, and only then, the test is skipped."""
    compiler()
    return loading.load()


def compiler() -> list[str]:
    """The C++ compiler; without one the test is skipped."""
    try:
        return compiling._compiler()
    except UnavailableError as error:
        pytest.skip(str(error))


def network(layers: Sequence[keras.layers.Layer], shape: Sequence[int], seed: int = 0) -> keras.Model:
    """A network of layers one after the other for inputs of this shape, with weights that are all of a kind."""
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(seed)
    # Small where they are many, so that images are not all black or white; variances stay above 0.
    model.set_weights([rng.uniform(0.1, 0.4, weight.shape) - 0.2 * (weight.ndim > 1) for weight in model.get_weights()])
    return model


def step(
    model: keras.Model, x: tf.Tensor, variables: Sequence[Any], training: bool = True
) -> tuple[list[Any], set[str]]:
    """Outputs, gradients of a weighted sum of them, and averages after a step; and the operations it took.

    The gradients are those with respect to x and the trainable variables; all variables are put back.
    """
    before = [np.asarray(variable) for variable in variables]
    sources = [x, *(variable.value for variable in variables if variable.trainable)]

    @tf.function
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = keras.tree.flatten(model(x, training=training))
            loss = tf.add_n([tf.reduce_sum(tf.cast(y, tf.float32) * _weights(y)) for y in outputs])
        return [*outputs, *tape.gradient(loss, sources)]

    results = [*compute(), *(np.asarray(variable) for variable in variables if not variable.trainable)]
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return results, {op.type for op in compute.get_concrete_function().graph.get_operations()}


def _weights(y: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))


def second_gradients(compute: Any, sources: Sequence[Any]) -> list[tf.Tensor]:
    """A sum of squared gradients of what a function of `sources` gives, and its gradients."""
    sources = list(sources)
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            loss = tf.reduce_sum(tf.sin(compute(*sources)))
        total = tf.add_n([tf.reduce_sum(gradient**2) for gradient in inner.gradient(loss, sources)])
    return [total, *outer.gradient(total, sources)]


def assert_second_gradients_are_right(model: keras.Model, fused: keras.Model, x: tf.Tensor) -> None:
    """They are those of the layers' formulas in double precision.

    Keras's batch normalisation is no reference: its variance lets no gradient through the mean, which is right for
    first derivatives only.
    """
    variables = model.trainable_variables
    exact = second_gradients(
        lambda x, *weights: _formulas(model, x, iter(weights)), [tf.cast(v, tf.float64) for v in (x, *variables)]
    )
    ours = second_gradients(lambda x, *_: fused(x, training=True), [x, *(variable.value for variable in variables)])
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def _formulas(model: keras.Model, x: tf.Tensor, weights: Iterator[tf.Tensor]) -> tf.Tensor:
    """What the layers make of x in training, of weights in the order of the layers'."""
    for layer in model.layers[1:]:
        own = [next(weights) for _ in layer.trainable_variables]
        if isinstance(layer, keras.layers.Conv2DTranspose):  # which is a Conv2D too, for Keras
            shape = [tf.shape(x)[0], *(side * layer.strides[0] for side in x.shape[1:3]), layer.filters]
            x = tf.nn.conv2d_transpose(x, own[0], shape, layer.strides, "SAME")
        elif isinstance(layer, keras.layers.Conv2D):
            x = tf.nn.conv2d(x, own[0], layer.strides, "SAME")
        elif isinstance(layer, keras.layers.BatchNormalization):
            mean = tf.reduce_mean(x, axis=[0, 1, 2])
            variance = tf.reduce_mean((x - mean) ** 2, axis=[0, 1, 2])
            x = (x - mean) * tf.math.rsqrt(variance + layer.epsilon) * own[0] + own[1]
        else:
            x = tf.nn.leaky_relu(x, layer.negative_slope)
        if getattr(layer, "use_bias", False):
            x += own[1]
        x = layer.activation(x) if hasattr(layer, "activation") else x
    return x


def assert_close(ours: Sequence[Any], kerass: Sequence[Any], tolerance: float = 1e-4) -> None:
    """All of `ours` are near all of `kerass`, in relation to the largest value of each."""
    for a, b in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * (1 + np.abs(b).max()))
