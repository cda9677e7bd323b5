"""Layers that several networks share, all of them Keras's own."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import keras

from vae_runner.errors import UserError
from vae_runner.likelihoods.base import PixelParameter
from vae_runner.posteriors.base import Posterior, Shape

Inputs: TypeAlias = keras.KerasTensor | list[keras.KerasTensor]


def normalization(kind: str, momentum: float, name: str) -> list[keras.layers.Layer]:
    """Return the layers of a `kind` of normalisation: one for "batch" and "layer", none for "none"."""
    if kind == "batch":
        return [keras.layers.BatchNormalization(momentum=momentum, name=name)]
    return [keras.layers.LayerNormalization(name=name)] if kind == "layer" else []


def activation(kind: str, slope: float, name: str) -> keras.layers.Layer:
    """Return the layer of an activation: LeakyReLU with this slope, or another by Keras's name of it."""
    if kind == "leaky_relu":
        return keras.layers.LeakyReLU(slope, name=f"leaky_relu_{name}")
    return keras.layers.Activation(kind, name=f"{kind}_{name}")


def heads(features: keras.KerasTensor, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, keras.KerasTensor]:
    """Return a linear map of features `[batch, n]` for each parameter of the posterior, by name.

    They are in float32 in mixed precision too, because a log_var is exponentiated. They are made in sorted order, in
    which Keras keeps a dictionary of outputs, so that a seed gives the same first weights in any order of `parameters`.
    """
    return {name: head(features, name, shape) for name, shape in sorted(parameters.items())}


def head(features: keras.KerasTensor, name: str, shape: Shape) -> keras.KerasTensor:
    """Return a linear map of features `[batch, n]` to a parameter of this shape, in float32."""
    made = keras.layers.Dense(math.prod(shape), dtype="float32", name=name)(features)
    return made if len(shape) == 1 else keras.layers.Reshape(shape, dtype="float32", name=f"{name}_shape")(made)


def through_latent(
    maps: keras.KerasTensor, latent: int, posterior: Posterior, classes: int, *, spatial: bool, kernel_size: int
) -> tuple[dict[str, keras.KerasTensor], Inputs, keras.KerasTensor]:
    """Return an encoder's outputs from its last maps, a decoder's inputs, and its first maps, which have their shape.

    With `spatial` the latent has `latent` numbers at each position of the maps, and the decoder's maps are a
    convolution of it; else it is a vector, and between it and the maps there are dense layers.

    Raises:
        UserError: the latent is spatial, and the posterior's z is no map.
    """
    if spatial:
        outputs = _map_heads(maps, latent, posterior)
        inputs, z = latent_inputs(_map_shape(maps.shape[1:3], latent, posterior), classes)
        return outputs, inputs, keras.layers.Conv2D(maps.shape[3], kernel_size, padding="same", name="conv_latent")(z)
    outputs = heads(keras.layers.Flatten(name="flatten")(maps), posterior.parameters((latent,)))
    inputs, z = latent_inputs(posterior.z_shape((latent,)), classes)
    z = keras.layers.Dense(math.prod(maps.shape[1:]), name="dense")(z)
    return outputs, inputs, keras.layers.Reshape(maps.shape[1:], name="reshape")(z)


def _map_heads(maps: keras.KerasTensor, latent: int, posterior: Posterior) -> dict[str, keras.KerasTensor]:
    """Return what `heads` does, for a spatial latent.

    A parameter with a row for each latent dimension is a map too, of a 1×1 convolution: `[batch, height, width, …]`.
    Others, like those of planar maps, are of the latent as one vector, and linear maps of all features.
    """
    height, width, _ = maps.shape[1:]
    dimensions = height * width * latent
    outputs: dict[str, keras.KerasTensor] = {}
    features = None
    for name, shape in sorted(posterior.parameters((dimensions,)).items()):
        if shape[0] == dimensions:
            channels = math.prod(shape) // (height * width)
            outputs[name] = keras.layers.Conv2D(channels, 1, dtype="float32", name=name)(maps)
        else:
            features = keras.layers.Flatten(name="flatten")(maps) if features is None else features
            outputs[name] = head(features, name, shape)
    return outputs


def _map_shape(size: tuple[int, int], latent: int, posterior: Posterior) -> tuple[int, int, int]:
    """Return the shape of a z with `latent` numbers at each of (height, width) positions, as the decoder is given it.

    Raises:
        UserError: the posterior's z is no map.
    """
    positions = math.prod(size)
    (numbers,) = posterior.z_shape((positions * latent,))
    if numbers % positions:
        raise UserError(
            f"model.latent=spatial: posterior {type(posterior).__name__} makes a z of {numbers} numbers, which is no "
            f"map of {size[0]}×{size[1]} positions: choose model.latent=vector, or posterior=gaussian"
        )
    return (*size, numbers // positions)


def dense_pixels(
    image_shape: tuple[int, int, int], parameters: Mapping[str, PixelParameter]
) -> Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """Construct a dense layer for each parameter of the likelihood, and return the function that applies them.

    It maps features `[batch, n]` to `[batch, height, width, channels of the parameter]`, by the parameter's name, in
    float32 also in mixed precision: the loss is taken on it.
    """
    layers = {
        name: keras.layers.Dense(
            math.prod(image_shape[:2]) * parameter.channels, activation=parameter.activation, dtype="float32",
            name=f"{name}_pixels",
        )
        for name, parameter in sorted(parameters.items())
    }  # fmt: skip
    shape = (*image_shape[:2], -1)

    def pixels(features: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        return {
            name: keras.layers.Reshape(shape, dtype="float32", name=name)(layer(features))
            for name, layer in layers.items()
        }

    return pixels


def halvings(size: tuple[int, int], smallest: int) -> int:
    """Return how often an image of this size, (height, width), is halved until its smaller side would be less."""
    count = 0
    while -(-min(size) // 2 ** (count + 1)) >= smallest:
        count += 1
    return count


def check_downsamplings(size: tuple[int, int], downsamplings: int) -> None:
    """Refuse more downsamplings than images of this size, (height, width), can be halved."""
    possible = (min(size) - 1).bit_length()
    if downsamplings > possible:
        raise UserError(
            f"model.downsamplings={downsamplings} does not fit images of {size[0]}×{size[1]}: after {possible} "
            f"halvings one pixel is left; give at most {possible}"
        )


def convolution_pixels(
    x: keras.KerasTensor, parameters: Mapping[str, PixelParameter], kernel_size: int, stride: int, size: Sequence[int]
) -> dict[str, keras.KerasTensor]:
    """Return a transposed convolution of maps for each parameter of the likelihood, by name, cropped to `size`.

    What makes the image is in float32 also in mixed precision: the loss is taken on it.
    """
    pixels = {
        name: keras.layers.Conv2DTranspose(
            parameter.channels, kernel_size, stride, padding="same", activation=parameter.activation, dtype="float32",
            name=name,
        )(x)
        for name, parameter in sorted(parameters.items())
    }  # fmt: skip
    return {name: crop(made, size) for name, made in pixels.items()}


def crop(x: keras.KerasTensor, size: Sequence[int]) -> keras.KerasTensor:
    """Return maps `[batch, height, width, channels]` without the lines at their ends that exceed `size`.

    A transposed convolution of stride 2 makes sides that are even, and so may be a line too long.
    """
    surplus = (x.shape[1] - size[0], x.shape[2] - size[1])
    if surplus == (0, 0):
        return x
    # In mixed precision the last maps are float32, and the cropped ones have to be too.
    return keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), dtype=x.dtype)(x)


def image_inputs(
    image_shape: tuple[int, int, int], classes: int, *, flat: bool = False
) -> tuple[Inputs, keras.KerasTensor]:
    """Return an encoder's inputs, and the first tensor that its layers take: the images, with `flat` as vectors.

    With `classes` there is a second input, the label, one-hot `[batch, classes]`. It is joined to the images as one
    more channel, a linear map of it, and to vectors as it is.
    """
    images = x = keras.Input(image_shape, name="images")
    if flat:
        x = keras.layers.Flatten(name="flatten")(x)
    if not classes:
        return images, x
    label = beside = keras.Input((classes,), name="label")
    if not flat:
        height, width, _ = image_shape
        beside = keras.layers.Dense(height * width, name="label_map")(beside)
        beside = keras.layers.Reshape((height, width, 1), name="label_channel")(beside)
    return [images, label], keras.layers.Concatenate(name="images_and_label")([x, beside])


def latent_inputs(z_shape: tuple[int, ...], classes: int) -> tuple[Inputs, keras.KerasTensor]:
    """Return a decoder's inputs, and the first tensor that its layers take: z.

    With `classes` there is a second input, the label, one-hot `[batch, classes]`, which is joined to z: to a map at
    each position.
    """
    z = keras.Input(z_shape, name="z")
    if not classes:
        return z, z
    label = beside = keras.Input((classes,), name="label")
    if len(z_shape) > 1:
        positions = z_shape[:-1]
        beside = keras.layers.RepeatVector(math.prod(positions), name="label_repeated")(label)
        beside = keras.layers.Reshape((*positions, classes), name="label_map")(beside)
    return [z, label], keras.layers.Concatenate(name="z_and_label")([z, beside])


def synchronize_normalization(networks: Iterable[keras.Model], synchronized: bool) -> None:
    """Let batch normalisation take its moments over the images of all replicas, or of each replica alone."""
    for network in networks:
        for layer in batch_normalizations(network):
            layer.synchronized = synchronized


def batch_normalizations(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the layers of batch normalisation in a network and in networks within it."""
    return [layer for layer in _layers(network) if isinstance(layer, keras.layers.BatchNormalization)]


def _layers(network: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a network, with those of networks within it in their place."""
    nested = (_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in network.layers)
    return [layer for layers in nested for layer in layers]
