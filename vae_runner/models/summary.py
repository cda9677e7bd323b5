"""The layers of a network, and the arithmetic and memory that they take."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from vae_runner.errors import UserError, counted
from vae_runner.models.autoencoder import Autoencoder
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


def training_bytes(
    autoencoder: Autoencoder, images: int, draws: int, weighed: int = 0, opponents: Sequence[keras.Model] = ()
) -> int:
    """Return the least number of bytes that training with Adam takes for `images` in a step and `draws` of z of each.

    These are the weights, their gradients and two averages of these, and the inputs of the layers that have weights,
    which the backward pass needs again; an input of several layers counts once. The encoder counts
    for the images that the prior has it encode too, and the decoder for all draws. A prior that is a mixture compares
    `weighed` of the draws with each of its components. An opponent is given two of each image: real and generated.
    """
    trained = [*autoencoder.trainable_variables, *(v for network in opponents for v in network.trainable_variables)]
    weights = sum(math.prod(variable.shape) for variable in trained)
    encoded = (images + autoencoder.prior.encoded_images) * _kept_bytes(autoencoder.encoder)
    decoded = images * draws * _kept_bytes(autoencoder.decoder)
    compared = images * weighed * autoencoder.prior.components * autoencoder.latent * WEIGHT_BYTES
    told_apart = 2 * images * sum(_kept_bytes(network) for network in opponents)
    return 4 * WEIGHT_BYTES * weights + encoded + decoded + compared + told_apart


def _kept_bytes(model: keras.Model) -> int:
    """Return the bytes that the inputs of the layers with weights take, for one image."""
    kept = {
        id(tensor): math.prod(tensor.shape[1:]) * tf.dtypes.as_dtype(layer.compute_dtype).size
        for layer in model.layers
        if layer.weights
        for tensor in keras.tree.flatten(layer.input)
    }
    return sum(kept.values()) + sum(_score_bytes(layer) for layer in model.layers)


def _score_bytes(layer: keras.layers.Layer) -> int:
    """Return the bytes that the scores of an attention layer take for one image, before and after their softmax."""
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        return 0
    positions = layer.output.shape[1]
    return 2 * layer.num_heads * positions**2 * tf.dtypes.as_dtype(layer.compute_dtype).size


def forward_flops(layer: keras.layers.Layer) -> int:
    """Return the FLOP of a layer's matrix products or convolution for one image; 0 for other layers."""
    if isinstance(layer, keras.layers.Dense):
        return 2 * math.prod(layer.kernel.shape)
    # A transposed convolution scatters each pixel of its input; a convolution gathers for each pixel of its output.
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.input.shape[1:3])
    if isinstance(layer, keras.layers.Conv2D):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    if isinstance(layer, keras.layers.MultiHeadAttention):
        positions = layer.output.shape[1]
        kernels = sum(math.prod(weight.shape) for weight in layer.weights if weight.name == "kernel")
        # Queries meet keys, and scores weigh values.
        return 2 * positions * kernels + 2 * 2 * positions**2 * layer.num_heads * layer.key_dim
    return 0


def _kind(layer: keras.layers.Layer) -> str:
    strides = getattr(layer, "strides", (1, 1))
    name = type(layer).__name__
    return f"{name} /{strides[0]}" if strides[0] > 1 else name


def check_memory(
    autoencoder: Autoencoder, images: int, draws: int, weighed: int = 0, opponents: Sequence[keras.Model] = ()
) -> None:
    """Refuse networks whose training on so many images a step takes more than the machine's main memory.

    The arguments are those of `training_bytes`.
    """
    needed, available = training_bytes(autoencoder, images, draws, weighed, opponents), memory()
    if needed > available:
        pseudo_inputs, components = autoencoder.prior.encoded_images, weighed and autoencoder.prior.components
        besides = f", with {draws:,} draws of z of each," if draws > 1 else ""
        besides += f" and {pseudo_inputs:,} pseudo-inputs" if pseudo_inputs else ""
        smaller = ["model", "latent", "batch_size", *(["loss.samples"] if draws > 1 else [])]
        smaller += ["prior.pseudo_inputs"] if pseudo_inputs else ["prior.components"] if components else []
        smaller += ["loss.discriminator_width"] if opponents else []
        raise UserError(
            f"training these networks on {counted(images, 'image')}{besides} a step takes more than "
            f"{needed / 1e9:,.0f} GB of memory, and this machine has {available / 1e9:,.0f} GB: choose a "
            f"smaller {', '.join(smaller)} or image size"
        )
