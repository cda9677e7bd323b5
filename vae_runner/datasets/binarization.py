"""Images in black and white, which likelihoods of binary images need, made from the grey values of any dataset."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from vae_runner.config.instantiation import build, keys_of
from vae_runner.config.keys import check_value
from vae_runner.config.registry import Built
from vae_runner.datasets.dataset import Dataset, Images, Split, check_dataset
from vae_runner.datasets.schema import BINARIZATIONS, AugmentConfig, check_augment
from vae_runner.errors import UserError

DRAW_SEED = 0  # It does not depend on the run's seed, so that all runs are measured on the same test images.
WHITE_FROM = 128  # the darkest grey that `threshold` makes white
CHUNK_BYTES = 64 << 20  # of the random numbers for a piece of an array
NUMBERS_A_COUNT = 8  # float32 numbers that Philox makes for each value of its counter

Binarize = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.uint8]]  # of images and their places in a split


def build_dataset(part: Built | Mapping[str, object]) -> Dataset:
    """Return the dataset that a part of a configuration describes, binarised as its key `binarize` says.

    Under `dynamic` the training images stay grey, and each training step draws binary images from them. Each step
    changes them too, where the key `augment` says so.

    Raises:
        UserError: it cannot be built, its images cannot be trained on, or there is no such `binarize` or `augment`.
    """
    keys = keys_of(part)
    augment = _augmentation(keys.pop("augment", None))
    how = str(keys.pop("binarize", "none"))
    if how not in BINARIZATIONS:
        raise UserError(f"dataset.binarize={how}: must be one of {', '.join(BINARIZATIONS)}")
    dataset: Dataset = build(keys, "dataset")
    check_dataset(dataset)
    check_augment(augment, how)
    if augment != AugmentConfig():
        dataset = replace(dataset, augment=augment)
    if how == "none":
        return dataset
    if how == "static" and dataset.static is not None:
        return replace(dataset.static(), augment=dataset.augment, binarize=how)
    return replace(
        dataset,
        train=dataset.train if how == "dynamic" else _binary(dataset.train, how, 0),
        test=_binary(dataset.test, how, 1),
        validation=None if dataset.validation is None else _binary(dataset.validation, how, 2),
        grid=None if dataset.grid is None else _binary(dataset.grid, how, 3),
        binarize=how,
    )


def _augmentation(keys: object) -> AugmentConfig:
    """Return the keys of `augment`, which a dataset of the user's own may lack; refuse what is none of them."""
    if isinstance(keys, AugmentConfig):
        return keys
    given = keys if isinstance(keys, Mapping) else {}
    known = {field.name: field for field in fields(AugmentConfig)}
    if not (keys is None or isinstance(keys, Mapping)) or not given.keys() <= known.keys():
        raise UserError(f"dataset.augment={keys}: give some of the keys {', '.join(known)}, as {{flip: true}}")
    for name, value in given.items():
        check_value(f"dataset.augment.{name}", value, known[name])
    return AugmentConfig(**given)


def encoded_training_images(dataset: Dataset) -> Split:
    """Return the training images as an encoder is given them: under `dynamic`, one binary draw of each."""
    return _binary(dataset.train, "dynamic", 0) if dataset.binarize == "dynamic" else dataset.train


class BinaryImages:
    """Images that are binarised when they are read, indexed like the array `[n, height, width, channels]`.

    `[2:8]` is a view, which reads nothing until `np.asarray`, if the images have such views.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, images: Images, binarize: Binarize, first: int = 0) -> None:
        self.shape = images.shape
        self._images, self._binarize, self._first = images, binarize, first

    @property
    def digests(self) -> NDArray[np.uint8] | None:
        """Return the digests of the grey images, if they have any: the binary images follow from the grey ones."""
        found: NDArray[np.uint8] | None = getattr(self._images, "digests", None)
        return found

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | NDArray[np.int64]) -> "BinaryImages | NDArray[np.uint8]":
        if isinstance(key, slice):
            chosen = range(len(self))[key]
            if chosen.step == 1:
                return BinaryImages(self._images[key], self._binarize, self._first + chosen.start)
            key = np.array(chosen, np.int64)
        places = np.arange(len(self))[key]  # An index means, and raises, what it does in NumPy.
        return self._read(places) if places.ndim else self._read(places[np.newaxis])[0]

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self._read(np.arange(len(self)))

    def _read(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._binarize(np.asarray(self._images[places]), self._first + places)


def _binary(split: Split, how: str, number: int) -> Split:
    """Return a split in black and white: an array in memory becomes another one, other images are binarised when read.

    `number` is the split's: 0 for training, 1 for test, 2 for validation images, 3 for the grid of factors.
    """

    def draw(images: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return drawn(images, places, number)

    images = BinaryImages(split.images, threshold if how == "threshold" else draw)
    if type(split.images) is not np.ndarray:
        return replace(split, images=images)
    made = np.empty(images.shape, np.uint8)
    chunk = max(CHUNK_BYTES // (4 * math.prod(images.shape[1:])), 1)
    for start in range(0, len(made), chunk):
        made[start : start + chunk] = images[start : start + chunk]
    return replace(split, images=made)


def threshold(images: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images in black and white, white from `WHITE_FROM` on; `places` make no difference."""
    return np.where(images >= WHITE_FROM, np.uint8(255), np.uint8(0))


def drawn(images: NDArray[np.uint8], places: NDArray[np.int64], split: int) -> NDArray[np.uint8]:
    """Return a binary draw of each image: a pixel is white with the probability `pixel` / 255.

    It is a function of an image's place in its split and of the split's number, however the images are read.
    """
    pixels = images.reshape(len(images), math.prod(images.shape[1:]))
    binary = np.empty_like(pixels)
    starts = np.flatnonzero(np.diff(places, prepend=places[:1] - 2) != 1)  # of stretches of consecutive places
    for begin, end in itertools.pairwise([*starts, len(places)]):
        uniform = _uniform(int(places[begin]), int(end - begin), pixels.shape[1], split)
        binary[begin:end] = np.where(uniform * 255 < pixels[begin:end], np.uint8(255), np.uint8(0))
    return binary.reshape(images.shape)


def _uniform(first: int, count: int, pixels: int, split: int) -> NDArray[np.float32]:
    """Return numbers in [0, 1), float32 `[count, pixels]`, for the images of a split from place `first` on."""
    counts = -(-pixels // NUMBERS_A_COUNT)
    generator = np.random.Generator(np.random.Philox(key=[DRAW_SEED, split], counter=first * counts))
    return generator.random((count, counts * NUMBERS_A_COUNT), np.float32)[:, :pixels]
