"""A finished run in use: images in, latents and images out, as arrays.

The commands and the Python interface are made of it, so that both do the same to an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from vae_runner.datasets.own_images import Preparation
from vae_runner.distributions.codes import CodeDistribution, Quantized
from vae_runner.distributions.point import Point
from vae_runner.errors import UserError, counted, did_you_mean
from vae_runner.evaluation import embeddings
from vae_runner.evaluation.embeddings import in_latent_space, posterior_of
from vae_runner.experiment import load
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import CodePosterior
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.noise import NumpyNoise

SHOWN_CLASSES = 20  # in a message

Pixels = NDArray[np.uint8]  # [n, height, width, channels]
Floats = NDArray[np.float32]
Labels = NDArray[np.int64] | None  # the classes of images, [n]; None where the run does not depend on them
Given = str | int | np.integer | Sequence[str | int] | NDArray[np.integer] | None  # a class of all, or of each


class Latents(NamedTuple):
    """What images are encoded to."""

    means: Floats  # [n, latent], of the posteriors
    codes: NDArray[np.int32] | None  # [n, positions], where z is made of codes: the likeliest ones
    draws: Floats | None  # [n, draws, latent], of the posteriors, where asked for


@dataclass(frozen=True)
class StoredModel:
    """The autoencoder of a finished run, with what is done to images before it is given them."""

    run: StoredRun
    autoencoder: Autoencoder

    @classmethod
    def open(cls, path: Path, trust: Sequence[str] = ()) -> Self:
        """Return the model of the run in a directory.

        Raises:
            UserError: there is no finished run, or it is damaged, or names code that is not in vae_runner or `trust`.
        """
        run = StoredRun.open_finished(path)
        return cls(run, load(run, trust))

    @cached_property
    def preparation(self) -> Preparation:
        """Return what is done to images; raise UserError where there is nothing for ones of this size."""
        return Preparation.of(self.run.config.dataset, self.autoencoder.image_shape)

    @cached_property
    def class_names(self) -> list[str]:
        """Return the names of the run's classes, numbers where the dataset has named none; empty where none matter."""
        classes = self.autoencoder.classes
        if not classes:
            return []
        _, _, names = self.run.test_images
        return names if len(names) == classes else [str(number) for number in range(classes)]

    def labels(self, given: Given, count: int) -> Labels:
        """Return the classes of so many images, int64 `[count]`: one for all, or one for each, by name or number.

        Raises:
            UserError: the run depends on classes, and none are given, or not so many, or it has no such class; or it
                does not depend on them.
        """
        if not self.class_names:
            if given is None:
                return None
            raise UserError(
                f"label {given}: {self.run.path} does not depend on classes: leave it out, or train with "
                "model.conditional=true"
            )
        if given is None:
            raise UserError(
                f"{self.run.path} is conditional: say which class each image is of; it has {self._known_classes}"
            )
        classes = np.asarray(given, object)
        if classes.ndim == 0:
            return np.full(count, self._class_of(classes.item()), np.int64)
        if len(classes) != count:
            raise UserError(
                f"{counted(len(classes), 'label')} of {counted(count, 'image')}: give one for each, or one for all"
            )
        return np.array([self._class_of(label) for label in classes], np.int64)

    def labels_in_turn(self, count: int) -> Labels:
        """Return each class in turn, int64 `[count]`; None where the run does not depend on them."""
        return np.arange(count) % self.autoencoder.classes if self.class_names else None

    def checked(self, images: ArrayLike) -> Pixels:
        """Return images as an encoder is given them, in black and white where the run's were; refuse others.

        Grey ones may come without an axis for the channel: uint8 `[n, height, width]`.
        """
        try:
            pixels = np.asarray(images)
        except ValueError as error:
            raise UserError(f"the images are no array ({error}): give uint8 ones of the same size") from error
        shape = self.autoencoder.image_shape
        if pixels.ndim == 3 and shape[2] == 1:
            pixels = pixels[..., np.newaxis]
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or len(pixels) == 0:
            size = ", ".join(map(str, shape))
            raise UserError(
                f"the images are {pixels.dtype} of shape {pixels.shape}: {self.run.path} takes uint8 [n, {size}], at "
                "least one"
            )
        return self.preparation.binary(pixels, np.arange(len(pixels)))

    def encode(
        self, pixels: Pixels, labels: Labels, draws: int = 0, generator: np.random.Generator | None = None
    ) -> Latents:
        """Return what images as `checked` returns them are encoded to, with so many draws of each posterior.

        Raises:
            UserError: the posteriors are points, and draws are asked for; or the weights are not finite.
        """
        parameters = posterior_of(self.autoencoder, pixels, labels)
        tensors = {name: tf.constant(values) for name, values in parameters.items()}
        posterior = self.autoencoder.posterior.distribution(tensors)
        if draws and isinstance(posterior, (Point, Quantized)):
            raise UserError(f"{self.run.path} has points for posteriors: there is nothing to draw but their means")
        drawn = None
        if draws:
            noise = NumpyNoise(generator or np.random.default_rng(0), len(pixels), np.float32)
            drawn = self._finite(np.stack([posterior.sample(noise).numpy() for _ in range(draws)], axis=1), "latents")
        codes = posterior.codes.numpy() if isinstance(posterior, CodeDistribution) else None
        return Latents(self._finite(parameters["mean"], "latents"), codes, drawn)

    def decode(self, z: ArrayLike, labels: Labels) -> Pixels:
        """Return images, uint8 `[n, height, width, channels]`, of latents `[n, latent]`, or of maps of them.

        Raises:
            UserError: these are no latents of the run, or the weights are not finite.
        """
        latents = self.latents(z)
        images = embeddings.decode(self.autoencoder, latents, labels)
        return np.round(self._finite(images, "images") * 255).astype(np.uint8)

    def latents(self, z: ArrayLike) -> NDArray[np.number]:
        """Return latents as `[n, latent]`, which may come as maps; refuse what are none of the run."""
        try:
            latents = np.asarray(z)
        except ValueError as error:
            raise UserError(f"the latents are no array ({error}): give vectors of the same length") from error
        shape, maps = (self.autoencoder.latent,), self.autoencoder.latent_shape
        if latents.dtype.kind not in "fiu" or latents.shape[1:] not in (shape, maps) or len(latents) == 0:
            raise UserError(
                f"the latents are {latents.dtype} of shape {latents.shape}: {self.run.path} takes numbers "
                f"[n, {shape[0]}], at least one"
            )
        if not np.isfinite(latents).all():
            raise UserError("some of the latents are NaN or infinite: give finite numbers")
        return latents.reshape(len(latents), -1)

    def sample(self, number: int, labels: Labels, seed: int) -> Floats:
        """Return draws of the prior, `[number, latent]`; raise UserError where the weights of a learned one are NaN."""
        noise = NumpyNoise(np.random.default_rng(seed), number, np.float32)
        return self._finite(np.asarray(self.autoencoder.latent_prior(labels).sample(noise)), "latents")

    def between(self, first: Pixels, last: Pixels, number: int, labels: Labels) -> NDArray[np.number]:
        """Return so many latents `[number, latent]` on the line between the embeddings of two images.

        The first and the last are these embeddings; on a sphere all lie on it. `labels` are of the two images.

        Raises:
            UserError: z is made of codes, between which there is nothing.
        """
        if isinstance(self.autoencoder.posterior, CodePosterior):
            raise UserError(f"the latents of {self.run.path} are codes: there is nothing between two of them")
        ends = self.encode(np.stack([first, last]), labels).means
        weights = np.linspace(0, 1, number, dtype=np.float32)[:, np.newaxis]
        line = (1 - weights) * ends[:1] + weights * ends[1:]
        return in_latent_space(self.autoencoder, line, None if labels is None else np.repeat(labels[:1], number))

    def _finite(self, values: Floats, what: str) -> Floats:
        if not np.isfinite(values).all():
            raise UserError(
                f"{self.run.path} makes {what} of values that are not finite: its weights are NaN, or far too large"
            )
        return values

    def _class_of(self, label: object) -> int:
        """Return the index of a class: a number is one; a text is a name, or, where no class has it, an index."""
        names = self.class_names
        if isinstance(label, str) and label in names:
            return names.index(label)
        if isinstance(label, (int, np.integer)) and 0 <= label < len(names):
            return int(label)
        if isinstance(label, str) and label in map(str, range(len(names))):
            return int(label)
        hint = did_you_mean(str(label), names)
        raise UserError(f"label {label}: there is no such class.{hint} The run has {self._known_classes}.")

    @property
    def _known_classes(self) -> str:
        return ", ".join(self.class_names[:SHOWN_CLASSES]) + (", …" if len(self.class_names) > SHOWN_CLASSES else "")
