"""Whether layers compute the same."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_runner.custom_ops import UnavailableError, compiling, loading


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


def outputs_and_gradients(layers: list[keras.layers.Layer], x: tf.Tensor) -> list[tf.Tensor]:
    """What layers in a row make of x, and the gradients of a weighted sum of it with respect to x and their weights."""
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in layers:
            y = layer(y)
        loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y)))
    return [y, *tape.gradient(loss, [x, *variables])]


def assert_close(ours: list[tf.Tensor], kerass: list[tf.Tensor]) -> None:
    for a, b in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(b).max()))
