"""A trained autoencoder and its dataset, as metrics see them: images are encoded once, whatever asks for them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.datasets.binarization import encoded_training_images
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.io.made import MadeImages
from vae_runner.distributions.base import Distribution
from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import Parameters, batch_size_for, decode, posterior_of
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.training.noise import NumpyNoise

MAX_BYTES = 48 << 20  # of images that are in memory at once, as uint8; metrics make several times as much of them

Floats = NDArray[np.float32]  # images in [0, 1], [n, height, width, channels]


@dataclass(frozen=True)
class Encoded:
    """Some images of a split, which are read when asked for, and the parameters of their posteriors."""

    split: Split
    parameters: Parameters  # each [n, …], with the posterior's mean among them

    @property
    def mean(self) -> NDArray[np.float32]:
        """Return the embeddings, `[n, latent]`."""
        return self.parameters["mean"]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the classes, `[n]`; refuse images without."""
        if self.split.labels is None:
            raise UserError("the images have no labels: a dataset with classes has them, or dataset.labels=folders")
        return self.split.labels

    def first(self, count: int) -> "Encoded":
        """Return the first `count` of these images."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> "Encoded":
        """Return the images from the place `start` on, up to but not including `stop`."""
        chosen = slice(start, stop)
        return Encoded(self.split.select(chosen), {name: of[chosen] for name, of in self.parameters.items()})


@dataclass(frozen=True)
class Training:
    """How the autoencoder was trained, as far as it matters for what is said of it."""

    loss: Mapping[str, object]  # the keys of its loss
    reconstruction_weight: float | None  # the effective one; None where the likelihood is a density
    epochs: int
    history: Sequence[Mapping[str, float]] = ()  # a row for each epoch

    @property
    def kl_weight(self) -> float | None:
        """Return the KL term's weight; None where it has none, or the loss weighs another number made of it."""
        if self.loss.get("free_bits") or self.loss.get("kl_capacity") is not None:
            return None
        weight = self.loss.get("kl_weight")
        return float(weight) if isinstance(weight, int | float) and weight else None


class Subject:
    """What is evaluated: an autoencoder that was trained on a dataset, under the keys of an evaluation.

    Of a split, so many images are taken in an order that `seed` decides, which begins with those of a smaller number.
    They are read when asked for, so that what needs them batch by batch may take any number.
    """

    def __init__(
        self, autoencoder: Autoencoder, dataset: Dataset, config: EvaluationConfig, training: Training
    ) -> None:
        self.autoencoder, self.dataset, self.config, self.training = autoencoder, dataset, config, training
        self.found: Mapping[str, float] = {}  # what other metrics have found so far
        self._encoded: dict[str, Encoded] = {}

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Return the images as an encoder is given them: where each step draws training images, one draw of each."""
        splits = {"train": encoded_training_images(self.dataset), "test": self.dataset.test}
        if self.dataset.grid is not None:
            splits["grid"] = self.dataset.grid
        return splits

    def labels_of(self, split: Split) -> NDArray[np.int64] | None:
        """Return the classes of images, where the networks or the prior depend on them."""
        return split.labels if self.autoencoder.classes else None

    def noise(self, count: int) -> NumpyNoise:
        """Return what draws for so many images are made from: with the same seed, the same."""
        return NumpyNoise(np.random.default_rng(self.config.seed), count, np.float32)

    def posterior(self, encoded: Encoded) -> Distribution:
        """Return q(z|x) of images that are encoded."""
        tensors = {name: tf.constant(values) for name, values in encoded.parameters.items()}
        return self.autoencoder.posterior.distribution(tensors)

    def with_factors(self, count: int) -> Encoded:
        """Return at most `count` encoded images of the full grid of factors, or of the test split where there is none.

        Raises:
            UserError: the images have no factors.
        """
        if not self.dataset.factor_names:
            raise UserError(
                "disentanglement is measured with known factors, and the images have none: dataset=sprites has, and a "
                "folder with dataset.factors=FILE.csv; evaluation=structure and probes need none"
            )
        return self.encoded("grid" if self.dataset.grid is not None else "test", count)

    def images(self, name: str, count: int) -> Split:
        """Return at most `count` images of `train`, `test` or the `grid` of factors, which are read when asked for."""
        split = self.splits[name]
        chosen = np.random.default_rng(self.config.seed).permutation(len(split))[:count]

        def read(places: NDArray[np.int64]) -> NDArray[np.uint8]:
            order = np.argsort(places)  # Files are read in their order.
            images = np.empty((len(places), *split.images.shape[1:]), np.uint8)
            images[order] = np.asarray(split.images[places[order]])
            return images

        height, width, channels = split.images.shape[1:]
        images = MadeImages(read, (height, width, channels), chosen)
        labels, factors = (None if of is None else of[chosen] for of in (split.labels, split.factors))
        return Split(images, labels, factors)

    def encoded(self, name: str, count: int) -> Encoded:
        """Return at most `count` images of a split, encoded: those that are so already are not encoded again."""
        there = self._encoded.get(name)
        most = min(count, len(self.splits[name]))
        if there is None or len(there.split) < most:
            split = self.images(name, most)
            parameters = posterior_of(self.autoencoder, split.images, self.labels_of(split))
            there = self._encoded[name] = Encoded(split, parameters)
        return there.first(most)

    def reconstructions(self, encoded: Encoded) -> Iterator[tuple[Floats, Floats]]:
        """Yield a batch of encoded images at a time, and what is decoded from their embeddings."""
        size = batch_size_for(self.autoencoder)
        for start in range(0, len(encoded.split), size):
            part = encoded.split.select(slice(start, start + size))
            images = np.asarray(part.images, np.float32) / np.float32(255)
            yield images, decode(self.autoencoder, encoded.mean[start : start + size], self.labels_of(part))

    def fitting(self, count: int) -> int:
        """Return how many images may be in memory at once where `count` are asked for."""
        return min(count, max(MAX_BYTES // math.prod(self.autoencoder.image_shape), 1))

    def cut(self, name: str, count: int) -> list[str]:
        """Return a note on a metric that has its images in memory, where it has fewer than asked for; else none."""
        count = min(count, len(self.splits[name]))
        fitting = self.fitting(count)
        size = "×".join(map(str, self.autoencoder.image_shape))
        what = f"{fitting:,} in place of {count:,} {'training' if name == 'train' else name} images"
        return [f"Of images of {size} no more fit into memory than {what}"] if fitting < count else []
