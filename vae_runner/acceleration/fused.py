"""The base of all fused layers, and what they ask of Keras's layers."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Self

import keras
import tensorflow as tf

Gradient = Callable[..., tuple[tf.Tensor, ...] | tf.Tensor]  # of a `tf.custom_gradient`


class Fused(keras.layers.Layer):
    """Layers of a network, one after the other, computed together with the same result.

    A fused layer owns no weights: it is a view of `layers`, which stay as they are. `custom_ops` are the operations
    that `custom_ops.loading.load` returns; without them TensorFlow's own are used.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], custom_ops: ModuleType | None = None) -> None:
        super().__init__(name="_".join(layer.name for layer in layers), dtype=layers[0].dtype_policy)
        self.layers = list(layers)
        self.custom_ops: Any = custom_ops  # a module whose functions TensorFlow gives no types
        self.built = True

    @classmethod
    def match(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> int:
        """Return how many of the first layers of a chain this class computes together; 0 for none.

        In a chain the output of each layer is the input of the next, and of no other.
        """
        raise NotImplementedError

    @classmethod
    def view(cls, chain: Sequence[keras.layers.Layer], custom_ops: ModuleType | None) -> Self | None:
        """Return the view of as many of the first layers of a chain as match, or None."""
        count = cls.match(chain, custom_ops)
        return cls(chain[:count], custom_ops) if count else None


def is_plain_normalization(layer: keras.layers.Layer) -> bool:
    """Return whether a layer is Keras's batch normalisation over the last axis of maps, without renormalisation."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.axis in (-1, 3)
        and not getattr(layer, "renorm", False)  # which earlier versions of Keras have not
    )


def is_normalized_by_replica(layer: keras.layers.BatchNormalization) -> bool:
    """Return whether training normalises in float32 with the moments of one replica's images."""
    return layer.trainable and not layer.synchronized and layer.compute_dtype == "float32"


def is_linear(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has no activation after its product or convolution."""
    return layer.activation is keras.activations.linear


def is_same_convolution(layer: keras.layers.Layer) -> bool:
    """Return whether a convolution pads to the "same" size and has one stride, no dilation, no groups."""
    return (
        layer.padding == "same"
        and layer.data_format == "channels_last"
        and layer.strides[0] == layer.strides[1]
        and layer.dilation_rate in (1, (1, 1))
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "output_padding", None) is None
    )
