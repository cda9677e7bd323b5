"""Images passed through a trained autoencoder, batch by batch: embeddings, reconstructions, decoded latents."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.divergence import kl_by_dimension
from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval

ACTIVATION_VALUES = 50_000_000  # of a batch's pixels times a generous width: keeps a batch's memory below a gigabyte
MAX_BATCH = 128  # about the images of a training step: so looking at a network takes no more memory than training it

Parameters = dict[str, NDArray[np.float32]]  # of posteriors, by name, each [n, latent]
Labels = NDArray[np.integer] | None  # the classes of images, [n]; needed where networks or prior depend on them


def batch_size_for(autoencoder: Autoencoder, most: int = MAX_BATCH) -> int:
    """Return how many images or latents to pass through a network at once, at most `most`.

    All batches have so many, of which the last ones may be thrown away: products of matrices round by their shape, and
    in smaller batches the last digits would be others.
    """
    height, width, _ = autoencoder.image_shape
    return int(min(max(ACTIVATION_VALUES // (height * width * 64), 1), most))


def posterior_of(autoencoder: Autoencoder, pixels: Any, labels: Labels = None) -> Parameters:
    """Return the posterior's `mean` and its parameters of uint8 images `[n, height, width, channels]`."""
    batches = []
    for parameters in _encoded(autoencoder, autoencoder.parameters, pixels, labels):
        parameters["mean"] = autoencoder.posterior.distribution(parameters).mean
        batches.append({name: value.numpy() for name, value in parameters.items()})
    return {name: np.concatenate([batch[name] for batch in batches])[: len(pixels)] for name in batches[0]}


def latents_of(
    autoencoder: Autoencoder,
    pixels: Any,
    labels: Labels = None,
    *,
    value: Callable[[Distribution, int], tf.Tensor] = lambda posterior, count: posterior.mean,
    report: Callable[[float], None] = lambda done: None,
) -> NDArray[np.generic]:
    """Return for each of many uint8 images the posterior's mean, `[n, latent]`, or what `value` returns.

    That is called with the posterior of a batch and the number of its images, and `report` with the fraction done.
    """
    size, batches = batch_size_for(autoencoder), []
    encode = tf.function(autoencoder.parameters, autograph=False)
    for number, parameters in enumerate(_encoded(autoencoder, encode, pixels, labels)):
        report(number * size / len(pixels))
        batches.append(value(autoencoder.posterior.distribution(parameters), size).numpy())
    report(1.0)
    return np.concatenate(batches)[: len(pixels)]


def information(
    autoencoder: Autoencoder, parameters: Parameters, labels: Labels = None
) -> tuple[NDArray[np.float32], str]:
    """Return how much each latent dimension tells of an image, float32 `[latent]`, and the unit of these numbers.

    They are mean KL divergences in "nats"; where these have no closed form, variances ("var.") of the embeddings.
    """
    posterior = autoencoder.posterior.distribution({name: tf.constant(value) for name, value in parameters.items()})
    kl = kl_by_dimension(posterior, autoencoder.latent_prior(labels))
    return (parameters["mean"].var(axis=0), "var.") if kl is None else (kl.numpy().mean(axis=0), "nats")


def in_latent_space(autoencoder: Autoencoder, z: NDArray[np.number], labels: Labels = None) -> NDArray[np.number]:
    """Return latents `[n, latent]` where the decoder knows them: on a sphere, those that left it are moved back."""
    if not isinstance(autoencoder.latent_prior(labels), UniformOnSphere):
        return z
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def decode(autoencoder: Autoencoder, z: NDArray[np.number], labels: Labels = None) -> NDArray[np.float32]:
    """Return images decoded from latents `[n, latent]`: float32 in [0, 1], `[n, height, width, channels]`."""
    size = batch_size_for(autoencoder)
    z = np.asarray(z, np.float32)
    batches = (
        autoencoder.decode(tf.constant(_batch(z, i, size)), _batch_of_labels(labels, i, size)).mean
        for i in range(0, len(z), size)
    )
    # A mean that is not squashed may lie outside.
    return np.concatenate([np.clip(images.numpy(), 0, 1) for images in batches])[: len(z)]


def reconstruct(autoencoder: Autoencoder, pixels: Any, labels: Labels = None) -> NDArray[np.float32]:
    """Return uint8 images decoded from their embeddings: float32 in [0, 1], `[n, height, width, channels]`."""
    return decode(autoencoder, posterior_of(autoencoder, pixels, labels)["mean"], labels)


def _encoded(
    autoencoder: Autoencoder, encode: Callable[..., dict[str, tf.Tensor]], pixels: Any, labels: Labels
) -> Iterator[dict[str, tf.Tensor]]:
    """Yield what `encode` returns of each batch of images; those of the last batch may be more than there are."""
    size = batch_size_for(autoencoder)
    for start in range(0, len(pixels), size):
        images = to_unit_interval(tf.constant(_batch(pixels, start, size)))
        yield encode(images, _batch_of_labels(labels, start, size))


def _batch(values: Any, start: int, size: int) -> NDArray[Any]:
    """Return `size` of the values `[n, …]`, from `start` on; where there are fewer, the last one is repeated."""
    part = np.asarray(values[start : start + size])
    return part[np.minimum(np.arange(size), len(part) - 1)]


def _batch_of_labels(labels: Labels, start: int, size: int) -> tf.Tensor | None:
    return None if labels is None else tf.constant(_batch(labels, start, size), tf.int64)
