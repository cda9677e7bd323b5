"""The layers of a network, and the arithmetic and memory that they take."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from vae_runner.errors import UserError
from vae_runner.runtime.hardware import memory

WEIGHT_BYTES = 4  # float32, also in mixed precision
BACKWARD = 2  # the backward pass of a product takes two products: one for the weights' gradient, one for the inputs'


class LayerSummary(NamedTuple):
    """One layer of a network."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int  # of the forward pass of one image, counting a multiplication and an addition as two


def summarize(model: keras.Model) -> list[LayerSummary]:
    """Return the layers of a Keras model that compute something."""
    return [
        LayerSummary(
            layer.name, _kind(layer), tuple(layer.output.shape[1:]), layer.count_params(), forward_flops(layer)
        )
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def training_flops(layers: Iterable[LayerSummary]) -> int:
    """Return the FLOP of matrix products and convolutions, forward and backward, for one image in a training step."""
    return (1 + BACKWARD) * sum(layer.flops for layer in layers)


def training_bytes(models: Iterable[keras.Model], images: int) -> int:
    """Return the least number of bytes that training with Adam takes on so many images a step.

    These are the weights, their gradients and two averages of these, and the inputs of the layers that have weights,
    which the backward pass needs again; an input of several layers counts once.
    """
    layers = [layer for model in models for layer in model.layers if layer.weights]
    weights = sum(layer.count_params() for layer in layers)
    kept = {
        id(layer.input): math.prod(layer.input.shape[1:]) * tf.dtypes.as_dtype(layer.compute_dtype).size
        for layer in layers
    }
    return 4 * WEIGHT_BYTES * weights + images * sum(kept.values())


def forward_flops(layer: keras.layers.Layer) -> int:
    """Return the FLOP of a layer's matrix product or convolution for one image; 0 for other layers."""
    if isinstance(layer, keras.layers.Dense):
        return 2 * math.prod(layer.kernel.shape)
    # A transposed convolution scatters each pixel of its input; a convolution gathers for each pixel of its output.
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.input.shape[1:3])
    if isinstance(layer, keras.layers.Conv2D):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    return 0


def _kind(layer: keras.layers.Layer) -> str:
    strides = getattr(layer, "strides", (1, 1))
    name = type(layer).__name__
    return f"{name} /{strides[0]}" if strides[0] > 1 else name


def check_memory(networks: Sequence[keras.Model], images: int) -> None:
    """Refuse networks whose training on so many images a step takes more than the machine's main memory."""
    needed, available = training_bytes(networks, images), memory()
    if needed > available:
        raise UserError(
            f"training these networks on {images} images a step takes more than {needed / 1e9:,.0f} GB of memory, and "
            f"this machine has {available / 1e9:,.0f} GB: choose a smaller model, latent, batch_size or image size"
        )
