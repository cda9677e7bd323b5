"""The tutorial's family of convolutional networks: blocks of convolution, normalisation and activation."""

from collections.abc import Sequence

import keras

from vae_runner.errors import UserError, counted
from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import activation as activation_layer
from vae_runner.models.layers import (
    check_downsamplings,
    convolution_pixels,
    crop,
    halvings,
    image_inputs,
    through_latent,
)
from vae_runner.models.layers import normalization as normalization_layers
from vae_runner.posteriors.base import Posterior

SMALLEST_BOTTLENECK = 7  # pixels: by default an image is halved as long as its smaller side stays at least this
SPARE_BLOCKS = 2  # by default a network has so many blocks that keep the size,
DEFAULT_DEPTH = 4  # but no more than make it this deep


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: Posterior,
    likelihood: Likelihood,
    *,
    classes: int = 0,
    spatial: bool = False,
    depth: int | None = None,
    downsamplings: int | None = None,
    filters: int | Sequence[int] | None = None,
    kernel_size: int = 3,
    normalization: str = "batch",
    batch_norm_momentum: float = 0.9,
    activation: str = "leaky_relu",
    leaky_relu_slope: float = 0.2,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder of `depth` blocks, `downsamplings` of them with stride 2, and the decoder that mirrors it.

    With `classes` both take labels too. With `spatial` the latent has `latent` numbers at each position of the last
    block's maps.

    Raises:
        UserError: these numbers do not make a network for images of this shape.
    """
    strides = block_strides(image_shape[:2], depth, downsamplings)
    widths = block_widths(len(strides), filters)
    # Batch normalisation subtracts the mean, and a bias with it: there is none where it could do nothing.
    convolution = {"padding": "same", "use_bias": normalization != "batch"}

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        for layer in normalization_layers(normalization, batch_norm_momentum, f"norm_{name}"):
            x = layer(x)
        return activation_layer(activation, leaky_relu_slope, name)(x)

    inputs, x = image_inputs(image_shape, classes)
    sizes = [image_shape[:2]]  # of the maps between the blocks
    for i, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        x = keras.layers.Conv2D(width, kernel_size, stride, name=f"conv_{i}", **convolution)(x)
        x = activate(x, f"{i}")
        sizes.append(x.shape[1:3])
    outputs, z, x = through_latent(x, latent, posterior, classes, spatial=spatial, kernel_size=kernel_size)
    encoder = keras.Model(inputs, outputs, name="encoder")

    for i in range(len(strides) - 1, 0, -1):
        name = f"transpose_{len(strides) - i}"
        x = keras.layers.Conv2DTranspose(widths[i - 1], kernel_size, strides[i], name=f"conv_{name}", **convolution)(x)
        x = crop(activate(x, name), sizes[i])
    pixels = convolution_pixels(x, likelihood.parameters(image_shape[2]), kernel_size, strides[0], sizes[0])
    decoder = keras.Model(z, pixels, name="decoder")
    return encoder, decoder


def block_strides(size: tuple[int, int], depth: int | None, downsamplings: int | None) -> list[int]:
    """Return the stride of each encoder block.

    `downsamplings` defaults to as many halvings as leave the smaller side at least 7, and `depth` to two blocks
    more than that, or to 4 where that is less, but never to fewer than the halvings. Blocks beyond the downsamplings
    keep the size, and go first and last, in turn.

    Raises:
        UserError: more downsamplings than blocks, or than the image can be halved.
    """
    natural = halvings(size, SMALLEST_BOTTLENECK)
    depth = max(natural, min(natural + SPARE_BLOCKS, DEFAULT_DEPTH), downsamplings or 0) if depth is None else depth
    downsamplings = min(natural, depth) if downsamplings is None else downsamplings
    if downsamplings > depth:
        raise UserError(
            f"model.downsamplings={downsamplings} does not fit model.depth={depth}: each downsampling is one of the "
            f"blocks; give at most {depth}, or a larger depth"
        )
    check_downsamplings(size, downsamplings)
    extra = depth - downsamplings
    return [1] * (extra - extra // 2) + [2] * downsamplings + [1] * (extra // 2)


def block_widths(depth: int, filters: int | Sequence[int] | None) -> list[int]:
    """Return the filters of each encoder block, by default 32, then 64s; refuse a list that is not one a block."""
    if filters is None:
        return [32] + [64] * (depth - 1)
    if isinstance(filters, int):
        return [filters] * depth
    if len(filters) != depth:
        raise UserError(
            f"model.filters={list(filters)} has {counted(len(filters), 'width')} for model.depth={depth}: give one "
            "a block"
        )
    return list(filters)
