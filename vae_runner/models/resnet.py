"""Residual networks, after the autoencoders of latent diffusion models."""

import math
from collections.abc import Sequence

import keras

from vae_runner.errors import UserError, counted
from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import (
    check_downsamplings,
    convolution_pixels,
    crop,
    halvings,
    image_inputs,
    through_latent,
)
from vae_runner.posteriors.base import Posterior

KERNEL_SIZE = 3
SMALLEST_BOTTLENECK = 7  # pixels: by default an image is halved as long as its smaller side stays at least this,
MOST_HALVINGS = 3  # but no more often than this, as the paper's network with f = 8
MOST_GROUPS = 32  # of a group normalisation, as in the paper's code,
FEWEST_IN_GROUP = 4  # with so many channels in each, as there: the mean of one channel alone would be lost
EPSILON = 1e-6  # of its variance, as in the paper's code


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: Posterior,
    likelihood: Likelihood,
    *,
    classes: int = 0,
    spatial: bool = False,
    widths: int | Sequence[int] | None = None,
    blocks: int = 1,
    downsamplings: int | None = None,
    attention: bool = False,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder with `blocks` residual blocks at each of `downsamplings` + 1 resolutions, and its mirror.

    It is the KL-regularised autoencoder of Rombach et al. (2022, appendix E.1), and by default smaller: `widths` are
    the channels at each resolution, where the paper has 128, 256, 512, 512, with two blocks and attention. A residual
    block is twice group normalisation, SiLU and convolution, beside which its input is passed on. Convolutions of
    stride 2 lead down; pixels that are repeated, and a convolution, lead up. At the lowest resolution there
    are two blocks more, and with `attention` the positions attend to each other between these.

    With `classes` both networks take labels too. With `spatial` the latent has `latent` numbers at each position of the
    lowest resolution; else it is a vector, with dense layers between it and the maps.

    Raises:
        UserError: these numbers do not make a network for images of this shape.
    """
    widths = resolution_widths(image_shape[:2], downsamplings, widths)

    inputs, x = image_inputs(image_shape, classes)
    x = _convolution(x, widths[0], "conv_in")
    sizes = []  # of the maps at each resolution
    for i, width in enumerate(widths):
        if i > 0:
            x = keras.layers.Conv2D(widths[i - 1], KERNEL_SIZE, 2, padding="same", name=f"down_{i}")(x)
        sizes.append(x.shape[1:3])
        for block in range(1, blocks + 1):
            x = _residual_block(x, width, f"resolution_{i}_block_{block}")
    x = _normalized_silu(_middle(x, attention), "out")
    outputs, z, x = through_latent(x, latent, posterior, classes, spatial=spatial, kernel_size=KERNEL_SIZE)
    encoder = keras.Model(inputs, outputs, name="encoder")

    x = _middle(x, attention)
    for i in range(len(widths) - 1, -1, -1):
        for block in range(blocks, 0, -1):
            x = _residual_block(x, widths[max(i - 1, 0) if block == 1 else i], f"resolution_{i}_block_{block}")
        if i > 0:
            x = keras.layers.UpSampling2D(interpolation="nearest", name=f"up_{i}")(x)
            x = _convolution(crop(x, sizes[i - 1]), widths[i - 1], f"conv_up_{i}")
    x = _normalized_silu(x, "out")
    pixels = convolution_pixels(x, likelihood.parameters(image_shape[2]), KERNEL_SIZE, 1, sizes[0])
    return encoder, keras.Model(z, pixels, name="decoder")


def _residual_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """Return maps plus what two convolutions make of them; a linear map of them where channels change."""
    skip = x if x.shape[-1] == width else keras.layers.Conv2D(width, 1, name=f"{name}_skip")(x)
    for i in (1, 2):
        x = _convolution(_normalized_silu(x, f"{name}_{i}"), width, f"{name}_conv_{i}")
    return keras.layers.Add(name=f"{name}_sum")([skip, x])


def _middle(x: keras.KerasTensor, attention: bool) -> keras.KerasTensor:
    """Return what two residual blocks make of the maps of the lowest resolution, with attention between them or not."""
    width = x.shape[-1]
    x = _residual_block(x, width, "middle_block_1")
    if attention:
        positions = keras.layers.Reshape((-1, width), name="positions")(_group_normalization(x, "norm_attention"))
        attended = keras.layers.MultiHeadAttention(num_heads=1, key_dim=width, name="attention")(positions, positions)
        attended = keras.layers.Reshape(x.shape[1:], name="attended")(attended)
        x = keras.layers.Add(name="attention_sum")([x, attended])
    return _residual_block(x, width, "middle_block_2")


def _normalized_silu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.Activation("silu", name=f"silu_{name}")(_group_normalization(x, f"norm_{name}"))


def _group_normalization(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.GroupNormalization(groups(x.shape[-1]), epsilon=EPSILON, name=name)(x)


def _convolution(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    return keras.layers.Conv2D(width, KERNEL_SIZE, padding="same", name=name)(x)


def groups(channels: int) -> int:
    """Return into how many groups channels are normalised: at most 32, of at least 4 channels where there are such."""
    count = math.gcd(channels, MOST_GROUPS)
    while count > 1 and channels // count < FEWEST_IN_GROUP:
        count //= 2
    return count


def resolution_widths(
    size: tuple[int, int], downsamplings: int | None, widths: int | Sequence[int] | None
) -> list[int]:
    """Return the channels at each resolution, by default 32, then 64s.

    `downsamplings` defaults to one less than there are `widths`, and without these to as many halvings as leave the
    smaller side at least 7, up to 3.

    Raises:
        UserError: there is not one width a resolution, or there are more downsamplings than the image can be halved.
    """
    if downsamplings is None:
        natural = min(halvings(size, SMALLEST_BOTTLENECK), MOST_HALVINGS)
        downsamplings = natural if widths is None or isinstance(widths, int) else len(widths) - 1
    check_downsamplings(size, downsamplings)
    if widths is None:
        return [32] + [64] * downsamplings
    if isinstance(widths, int):
        return [widths] * (downsamplings + 1)
    if len(widths) != downsamplings + 1:
        raise UserError(
            f"model.widths={list(widths)} has {counted(len(widths), 'number')} for "
            f"model.downsamplings={downsamplings}: give one a resolution, which is one more than downsamplings"
        )
    return list(widths)
