"""Layers that several networks share, all of them Keras's own."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras

Inputs: TypeAlias = keras.KerasTensor | list[keras.KerasTensor]


def normalization(kind: str, momentum: float, name: str) -> list[keras.layers.Layer]:
    """Return the layers, none or one, of `kind`: "batch", "layer" or "none"."""
    if kind == "batch":
        return [keras.layers.BatchNormalization(momentum=momentum, name=name)]
    return [keras.layers.LayerNormalization(name=name)] if kind == "layer" else []


def heads(features: keras.KerasTensor, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, keras.KerasTensor]:
    """Return a linear map of features `[batch, n]` for each parameter of the posterior, by name.

    They are in float32 also where the network is not, because a log_var is exponentiated; and made in sorted order, as
    Keras keeps a dictionary of outputs, so that a seed gives the same first weights in any order of the parameters.
    """
    return {
        name: keras.layers.Dense(*shape, dtype="float32", name=name)(features)
        for name, shape in sorted(parameters.items())
    }


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

    With `classes` there is a second input, the label, one-hot `[batch, classes]`, which is joined to z.
    """
    z = keras.Input(z_shape, name="z")
    if not classes:
        return z, z
    label = keras.Input((classes,), name="label")
    return [z, label], keras.layers.Concatenate(name="z_and_label")([z, label])


def synchronize_normalization(networks: Iterable[keras.Model], synchronized: bool) -> None:
    """Let batch normalisation take its moments over the images of all replicas, or of each replica alone."""
    for network in networks:
        for layer in _layers(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized


def _layers(network: keras.Model) -> list[Any]:
    """Return the layers of a network, those of networks in it too."""
    nested = (_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in network.layers)
    return [layer for layers in nested for layer in layers]
