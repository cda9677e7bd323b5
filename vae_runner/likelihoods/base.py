"""The interface of a likelihood."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.distributions.base import Family
from vae_runner.errors import UserError

CHECKED_IMAGES = 1000
BLACK, WHITE = 0.001, 0.999  # the least and greatest mean pixel that a decoder begins at: beyond, a sigmoid saturates


class PixelParameter(NamedTuple):
    """What a decoder must give for each pixel: `channels` numbers, from a layer with this activation of Keras's."""

    channels: int
    activation: str | None = None


class ImageDistribution(Protocol):
    """A distribution over images, one for each of a batch of latents."""

    @property
    def mean(self) -> tf.Tensor:
        """Return the image that is shown: float32 in [0, 1], `[batch, height, width, channels]`.

        It is part of the saved decoder, and so written in `keras.ops`, not in TensorFlow's or NumPy's functions.
        """

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return −log p(x|z) of images like the mean, in nats, or what stands in for it: `[batch]`."""


class Likelihood(Family):
    """A family of distributions p(x|z) over images."""

    weight: float = 1.0  # of the reconstruction term, where the loss names no other
    measure: str | None = None  # of its density: "binary", "levels" (256), "unit interval"; None: it has no density

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return by name what a decoder must give for images with this number of channels."""
        raise NotImplementedError

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> ImageDistribution:
        """Return the distribution over images that parameters `[batch, height, width, channels]` describe."""
        raise NotImplementedError

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return a decoder's outputs, before their activation, for which the distribution has this mean.

        They are given by name, and only those that decide the mean. `mean` is in [0, 1], `[…, channels]`; an output is
        `[…, channels of the parameter]`.

        Raises:
            UserError: the mean does not follow from a location or a logit.
        """
        raise UserError(
            f"model.output_bias=mean needs a likelihood whose mean follows from a location or a logit, and "
            f"{type(self).__name__} is none: choose model.output_bias=zero"
        )

    def fitted(
        self, distribution: ImageDistribution, images: tf.Tensor, gather: Callable[[tf.Tensor], tf.Tensor]
    ) -> ImageDistribution:
        """Return the distribution that a training step takes the error of `images` from.

        That is `distribution` itself, unless a parameter is a statistic of the batch. `gather` takes `[images of this
        replica, …]` and returns the values of all replicas, `[images of the batch, …]`.
        """
        return distribution


class MeanLikelihood(Likelihood):
    """A likelihood of which the decoder gives the mean, in [0, 1]."""

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean in [0, 1]."""
        return {"mean": PixelParameter(channels, "sigmoid")}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return what the sigmoid maps to mean pixels."""
        return {"mean": logit(mean)}


class LogitLikelihood(Likelihood):
    """A likelihood of which the decoder gives logits: of the mean, where `output_bias` is not another."""

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a logit for each channel."""
        return {"logits": PixelParameter(channels)}

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the logits of mean pixels."""
        return {"logits": logit(mean)}


def logit(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of mean pixels, which are clipped to `BLACK` and `WHITE` before."""
    mean = np.clip(mean, BLACK, WHITE)
    return np.log(mean) - np.log1p(-mean)


def check_levels(likelihood: Likelihood, dataset: Dataset) -> None:
    """Refuse a likelihood of binary images where the first training images are not black and white.

    The other way round nothing is refused: masses of 256 levels are masses of binary images too, and their nats compare
    with a Bernoulli likelihood's; a density of real numbers grows without bound on them as it does on grey ones.
    """
    if likelihood.measure == "binary" and dataset.binarize == "none":
        levels = np.unique(np.asarray(dataset.train.first(CHECKED_IMAGES).images))
        if not np.isin(levels, (0, 255)).all():
            raise UserError(
                f"likelihood: {type(likelihood).__name__} is for images of the levels 0 and 255, and these have "
                "others: give dataset.binarize=dynamic (or static, or threshold), or choose likelihood="
                "continuous_bernoulli, discretized_logistic or another of grey images"
            )
