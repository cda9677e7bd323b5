"""The convolutional network of the papers on disentangled representations."""

import math
from collections.abc import Sequence

import keras

from vae_runner.errors import UserError, counted
from vae_runner.likelihoods.base import Likelihood
from vae_runner.models.layers import activation as activation_layer
from vae_runner.models.layers import convolution_pixels, crop, halvings, heads, image_inputs, latent_inputs
from vae_runner.posteriors.base import Posterior

KERNEL_SIZE = 4
SMALLEST_BOTTLENECK = 4  # pixels: an image is halved as long as its smaller side stays at least this


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    posterior: Posterior,
    likelihood: Likelihood,
    *,
    classes: int = 0,
    filters: int | Sequence[int] | None = None,
    widths: Sequence[int] = (256,),
    activation: str = "relu",
    leaky_relu_slope: float = 0.2,
) -> tuple[keras.Model, keras.Model]:
    """Return an encoder of 4×4 convolutions of stride 2 and dense layers of these `widths`, and its mirror.

    By default that is the network of Higgins et al. (2017, table 1), from which those of Kim & Mnih (2018) and of
    Locatello et al. (2019) differ by a width or a kernel. Burgess et al. (2018) have 32 filters everywhere and two
    dense layers of 256. Images of 64×64 pixels are halved four times, to 4×4 maps; other images as often as
    leaves their smaller side at least 4. With `classes` both networks take labels too.

    Raises:
        UserError: `filters` is a list, and does not have one number for each convolution.
    """
    filters = convolution_filters(image_shape[:2], filters)

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return activation_layer(activation, leaky_relu_slope, name)(x)

    def dense(x: keras.KerasTensor, widths: Sequence[int]) -> keras.KerasTensor:
        for i, units in enumerate(widths, start=1):
            x = activate(keras.layers.Dense(units, name=f"dense_{i}")(x), f"dense_{i}")
        return x

    inputs, x = image_inputs(image_shape, classes)
    sizes = [image_shape[:2]]  # of the maps between the convolutions
    for i, count in enumerate(filters, start=1):
        x = keras.layers.Conv2D(count, KERNEL_SIZE, 2, padding="same", name=f"conv_{i}")(x)
        x = activate(x, f"conv_{i}")
        sizes.append(x.shape[1:3])
    bottleneck = x.shape[1:]
    features = dense(keras.layers.Flatten(name="flatten")(x), widths)
    encoder = keras.Model(inputs, heads(features, posterior.parameters((latent,))), name="encoder")

    inputs, x = latent_inputs(posterior.z_shape((latent,)), classes)
    x = dense(x, [*reversed(widths), math.prod(bottleneck)])
    x = keras.layers.Reshape(bottleneck, name="reshape")(x)
    for i in range(len(filters) - 1, 0, -1):
        name = f"conv_transpose_{len(filters) - i}"
        x = keras.layers.Conv2DTranspose(filters[i - 1], KERNEL_SIZE, 2, padding="same", name=name)(x)
        x = crop(activate(x, name), sizes[i])
    pixels = convolution_pixels(x, likelihood.parameters(image_shape[2]), KERNEL_SIZE, 2, sizes[0])
    decoder = keras.Model(inputs, pixels, name="decoder")
    return encoder, decoder


def convolution_filters(size: tuple[int, int], filters: int | Sequence[int] | None) -> list[int]:
    """Return the filters of each convolution, by default 32, 32, then 64s.

    Raises:
        UserError: a list has another length than there are convolutions for images of this size, (height, width).
    """
    count = halvings(size, SMALLEST_BOTTLENECK)
    if filters is None:
        return ([32, 32] + [64] * count)[:count]
    if isinstance(filters, int):
        return [filters] * count
    if len(filters) != count:
        raise UserError(
            f"model.filters={list(filters)} has {counted(len(filters), 'number')}, and images of {size[0]}×{size[1]} "
            f"are halved by {count} convolutions: give one a convolution"
        )
    return list(filters)
