"""Decoders that begin at the mean image of the training images."""

import keras
import numpy as np
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.models.autoencoder import Autoencoder


def begin_at_mean(autoencoder: Autoencoder, mean: NDArray[np.float64]) -> None:
    """Assign the biases of a decoder's last layers so that features of zeros make the mean image.

    `mean` is the mean of the training images, in [0, 1], `[height, width, channels]`. A layer with a bias for each
    pixel, like a dense one, begins there, as in Burda et al.'s code (2016); one with a bias a channel, like a
    convolution, at the mean over its pixels.

    Raises:
        UserError: the likelihood has no mean that follows from biases, or the decoder's last layers have none.
    """
    by_channel = autoencoder.likelihood.output_bias(mean.mean(axis=(0, 1)))
    for name, by_pixel in autoencoder.likelihood.output_bias(mean).items():
        bias = getattr(output_layer(autoencoder.decoder, name), "bias", None)
        values = {value.size: value for value in (by_pixel, by_channel[name])}
        if bias is None or bias.ndim != 1 or bias.shape[0] not in values:
            raise UserError(
                f"model.output_bias=mean: the layer that makes {name} has no bias for each pixel or channel: "
                "choose model.output_bias=zero"
            )
        bias.assign(values[bias.shape[0]].reshape(-1))


def output_layer(decoder: keras.Model, name: str) -> keras.layers.Layer | None:
    """Return the last layer with weights on the way to an output; None where there are several ways.

    A layer may be part of several models, as of a fused one: `layer.output` would be that of the first.
    """
    tensors = [decoder.output[name]]
    while len(tensors) == 1:
        layer, node, _ = tensors[0]._keras_history
        if layer.weights:
            return layer
        tensors = layer._inbound_nodes[node].input_tensors
    return None
