"""The tutorial's family of convolutional networks: blocks of convolution, normalisation and LeakyReLU."""

from collections.abc import Sequence
from typing import Any

import keras

from vae_runner.errors import UserError
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.joined import (
    MAX_FOLDED_PATCH,
    MAX_SPANNING_LATENT,
    AffineMap,
    FoldedBlock,
    ImageHead,
    NormalizedLeakyReLU,
    heads,
)
from vae_runner.models.layers import (
    MAX_TAPPED_CHANNELS,
    InPlaceLeakyReLU,
    StridedConv2D,
    StridedConv2DTranspose,
    TappedConv2DTranspose,
    normalization,
)
from vae_runner.models.posterior import Posterior

SMALLEST_BOTTLENECK = 7  # pixels: by default an image is halved as long as its smaller side stays at least this
SPARE_BLOCKS = 2  # by default a network has so many blocks that keep the size,
DEFAULT_DEPTH = 4  # but no more than make it this deep
STRIDED: dict[type, Any] = {keras.layers.Conv2D: StridedConv2D, keras.layers.Conv2DTranspose: StridedConv2DTranspose}


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: type[Posterior],
    *,
    depth: int | None = None,
    downsamplings: int | None = None,
    filters: int | Sequence[int] | None = None,
    kernel_size: int = 3,
    normalization: str = "batch",
    batch_norm_momentum: float = 0.9,
    leaky_relu_slope: float = 0.2,
) -> Autoencoder:
    """An encoder of `depth` blocks, `downsamplings` of them with stride 2, and the decoder that mirrors it.

    Raises:
        UserError: these numbers do not make a network for images of this shape.
    """
    strides = block_strides(image_shape[:2], depth, downsamplings)
    widths = block_widths(len(strides), filters)
    block = _Block(kernel_size, normalization, batch_norm_momentum, leaky_relu_slope)

    # The sizes of the maps between the blocks: the decoder walks them back, so that odd sides come out as they went in.
    sizes = [(image_shape[0], image_shape[1])]
    for stride in strides:
        sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))

    images = x = keras.Input(image_shape, name="images")
    for i, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        x = block(x, width, stride, f"{i}")
    bottleneck = (*sizes[-1], widths[-1])
    x = keras.layers.Flatten(name="flatten")(x)
    encoder = keras.Model(images, heads(x, latent, posterior.parameters), name="encoder")

    z = keras.Input((latent,), name="z")
    dense = keras.layers.Dense(bottleneck[0] * bottleneck[1] * bottleneck[2], name="dense")
    numbers = range(len(strides) - 1, 0, -1)  # of the encoder's blocks, mirrored
    convolutions = [
        block.convolution(keras.layers.Conv2DTranspose, widths[i - 1], strides[i], f"transpose_{len(strides) - i}")
        for i in numbers
    ]
    # Up to the first normalisation nothing bends: the map from z is affine.
    x = _affine([dense, keras.layers.Reshape(bottleneck, name="reshape"), *convolutions[:1]], z)
    # The last convolution makes the image itself, in float32 also in mixed precision: the loss is taken on it.
    tapped = strides[0] == 1 and image_shape[2] <= MAX_TAPPED_CHANNELS
    last = (TappedConv2DTranspose if tapped else keras.layers.Conv2DTranspose)(
        image_shape[2], kernel_size, strides[0], padding="same", activation="sigmoid", dtype="float32",
        name=f"conv_transpose_{len(strides)}",
    )  # fmt: skip
    for i, convolution in zip(numbers, convolutions, strict=True):
        x = convolution(x) if convolution is not convolutions[0] else x
        name = f"transpose_{len(strides) - i}"
        if i == 1 and tapped and normalization == "batch" and x.shape[1:3] == sizes[i]:
            last = ImageHead([*block.after(name), last], name="image_head")
        else:
            x = _crop(block.activate(x, name), sizes[i])
    decoder = keras.Model(z, _crop(last(x), sizes[0]), name="decoder")
    return Autoencoder(encoder, decoder, posterior)


def block_strides(size: tuple[int, int], depth: int | None, downsamplings: int | None) -> list[int]:
    """The stride of each encoder block.

    `downsamplings` defaults to as many halvings as leave the smaller side at least 7, and `depth` to two blocks
    more than that, or to 4 where that is less, but never to fewer than the halvings. Blocks beyond the downsamplings
    keep the size, and go first and last, in turn.

    Raises:
        UserError: more downsamplings than blocks, or than the image can be halved.
    """
    natural = 0
    while -(-min(size) // 2 ** (natural + 1)) >= SMALLEST_BOTTLENECK:
        natural += 1
    depth = max(natural, min(natural + SPARE_BLOCKS, DEFAULT_DEPTH), downsamplings or 0) if depth is None else depth
    downsamplings = min(natural, depth) if downsamplings is None else downsamplings
    if downsamplings > depth:
        raise UserError(
            f"model.downsamplings={downsamplings} does not fit model.depth={depth}: each downsampling is one of the "
            f"blocks; give at most {depth}, or a larger depth"
        )
    possible = (min(size) - 1).bit_length()
    if downsamplings > possible:
        raise UserError(
            f"model.downsamplings={downsamplings} does not fit images of {size[0]}×{size[1]}: after {possible} "
            f"halvings one pixel is left; give at most {possible}"
        )
    extra = depth - downsamplings
    return [1] * (extra - extra // 2) + [2] * downsamplings + [1] * (extra // 2)


def block_widths(depth: int, filters: int | Sequence[int] | None) -> list[int]:
    """The number of filters of each encoder block: by default 32, then 64s.

    Raises:
        UserError: a list whose length is not the depth.
    """
    if filters is None:
        return [32] + [64] * (depth - 1)
    if isinstance(filters, int):
        return [filters] * depth
    if len(filters) != depth:
        raise UserError(
            f"model.filters={list(filters)} has {len(filters)} widths for model.depth={depth} blocks: give one a block"
        )
    return list(filters)


class _Block:
    """A convolution, its normalisation and LeakyReLU."""

    def __init__(self, kernel_size: int, kind: str, momentum: float, slope: float) -> None:
        self.kernel_size, self.kind, self.momentum, self.slope = kernel_size, kind, momentum, slope

    def __call__(self, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
        convolution = self.convolution(keras.layers.Conv2D, width, stride, name)
        if self.kind == "batch" and self.kernel_size**2 * x.shape[-1] <= MAX_FOLDED_PATCH:
            return FoldedBlock([convolution, *self.after(name)], name=f"block_{name}")(x)
        return self.activate(convolution(x), name)

    def convolution(self, kind: type[keras.layers.Layer], width: int, stride: int, name: str) -> keras.layers.Layer:
        kind = STRIDED[kind] if stride > 1 else kind
        # Batch normalisation subtracts the mean, and a bias with it: there is none where it could do nothing.
        return kind(
            width, self.kernel_size, stride, padding="same", use_bias=self.kind != "batch", name=f"conv_{name}"
        )  # fmt: skip

    def activate(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self.kind == "batch":
            return NormalizedLeakyReLU(self.after(name), name=f"normalized_{name}")(x)
        for layer in self.after(name):
            x = layer(x)
        return x

    def after(self, name: str) -> list[keras.layers.Layer]:
        """The layers after the convolution."""
        leaky_relu = InPlaceLeakyReLU(self.slope, name=f"leaky_relu_{name}")
        return [*normalization(self.kind, self.momentum, f"norm_{name}"), leaky_relu]


def _affine(layers: list[keras.layers.Layer], z: keras.KerasTensor) -> keras.KerasTensor:
    """Layers, affine one after the other, applied to z."""
    if z.shape[-1] <= MAX_SPANNING_LATENT:
        return AffineMap(layers, name="affine")(z)
    for layer in layers:
        z = layer(z)
    return z


def _crop(x: keras.KerasTensor, size: tuple[int, int]) -> keras.KerasTensor:
    """A transposed convolution of stride 2 makes even sides; where the mirrored side is odd, its last line goes."""
    surplus = (x.shape[1] - size[0], x.shape[2] - size[1])
    return x if surplus == (0, 0) else keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])))(x)
