"""The networks in a flow's steps."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Network = Callable[[tf.Tensor], tf.Tensor]  # from [batch, inputs] to [batch, outputs]

HIDDEN_LAYERS = 2


class Networks(keras.layers.Layer):
    """A network of two hidden layers for each step of a flow, in float32.

    One variable has the kernels of a layer in all steps, and another one the biases.
    The last layers begin with zeros. `masks` has an array for each layer, which broadcasts to its kernels
    `[steps, inputs, outputs]`: a connection is kept where the mask is 1, and cut where it is 0.
    """

    def __init__(
        self, steps: int, inputs: int, width: int, outputs: int, masks: Sequence[NDArray[np.float32]] | None = None
    ) -> None:
        super().__init__(dtype="float32")
        self._masks = masks
        self._kernels, self._biases = [], []
        for number, (rows, columns) in enumerate(pairwise((inputs, *[width] * HIDDEN_LAYERS, outputs))):
            # Glorot's limit of one network: Keras's own initializer would take the steps for a part of the kernel.
            limit = math.sqrt(6 / (rows + columns))
            initializer = keras.initializers.RandomUniform(-limit, limit) if number < HIDDEN_LAYERS else "zeros"
            self._kernels.append(self.add_weight((steps, rows, columns), initializer, name=f"kernel_{number + 1}"))
            self._biases.append(self.add_weight((steps, columns), "zeros", name=f"bias_{number + 1}"))

    def given(self, context: tf.Tensor | None) -> list[Network]:
        """Return the network of each step. `context`, `[batch, width]` or None, is added to each first hidden layer."""
        kernels = [tf.convert_to_tensor(kernel.value) for kernel in self._kernels]
        if self._masks is not None:
            kernels = [kernel * mask for kernel, mask in zip(kernels, self._masks, strict=True)]
        layers = [
            zip(tf.unstack(kernel), tf.unstack(tf.convert_to_tensor(bias.value)), strict=True)
            for kernel, bias in zip(kernels, self._biases, strict=True)
        ]
        return [_network(weights, context) for weights in zip(*layers, strict=True)]


def _network(weights: Sequence[tuple[tf.Tensor, tf.Tensor]], context: tf.Tensor | None) -> Network:
    def network(x: tf.Tensor) -> tf.Tensor:
        for number, (kernel, bias) in enumerate(weights):
            x = tf.matmul(x, kernel) + bias
            if number == 0 and context is not None:
                x += context
            if number < HIDDEN_LAYERS:
                x = tf.nn.elu(x)
        return x

    return network
