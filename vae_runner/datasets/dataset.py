"""What every source of images returns: a `Dataset`. A source is a function that its YAML's `_target_` names."""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.io.resizing import resized
from vae_runner.datasets.schema import AugmentConfig
from vae_runner.errors import UserError, counted

log = logging.getLogger(__name__)

SPLIT_SEED = 0  # Splits do not follow the run's seed: runs with other seeds are compared on the same test images.
CHUNK_BYTES = 64 << 20  # of images that are read at once to be averaged
SAMPLE_IMAGES, SAMPLE_BYTES = 4096, 64 << 20  # the most that is read to recognise images without digests

Labels = NDArray[np.int64]
Factors = NDArray[np.int64]
Fingerprint = dict[str, dict[str, int | str]]  # by split: "images", their number, and "content", a digest


class Images(Protocol):
    """Images uint8 `[n, height, width, channels]`: an array, or indexed like one without being loaded as a whole."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return `(n, height, width, channels)`."""

    @property
    def dtype(self) -> object:
        """Return NumPy's uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice | NDArray[np.int64], /) -> "Images": ...


@dataclass(frozen=True)
class Split:
    """Images, and where there are any their classes `[n]`, and the values of their factors `[n, factors]`, from 0."""

    images: Images
    labels: Labels | None = None
    factors: Factors | None = None

    def __len__(self) -> int:
        return len(self.images)

    def select(self, key: slice | NDArray[np.int64]) -> "Split":
        """Return a split of some of the images, chosen as NumPy's indexing does."""
        labels = None if self.labels is None else self.labels[key]
        return Split(self.images[key], labels, None if self.factors is None else self.factors[key])

    def first(self, count: int) -> "Split":
        """Return a split of the first `count` images."""
        return self.select(slice(count))


@dataclass(frozen=True)
class Dataset:
    """The splits of a dataset, and the names of its classes and factors (empty where it has none)."""

    train: Split
    test: Split
    validation: Split | None = None
    label_names: Sequence[str] = ()
    binarize: str = "none"  # how they were made black and white; "dynamic": each step draws the training images
    augment: AugmentConfig | None = None  # how each step changes the training images
    factor_names: Sequence[str] = ()
    factor_sizes: Sequence[int] = ()  # how many values each has
    grid: Split | None = None  # each combination of factors once, the last factor fastest: the splits' images together
    static: "Callable[[], Dataset] | None" = None  # reads the published binarisation of the images, where that is there

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def splits(self) -> dict[str, Split]:
        """Return the splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @cached_property
    def classes(self) -> int:
        """Return how many classes there are; 0 where images have no labels."""
        labels = [split.labels for split in self.splits.values() if split.labels is not None]
        if len(labels) < len(self.splits):
            return 0
        return len(self.label_names) or 1 + max(int(np.max(of_split)) for of_split in labels)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Return the number of images of each split, and a digest of their pixels and classes, whatever their files."""
        return {name: {"images": len(split), "content": _digest(split)} for name, split in self.splits.items()}


def _digest(split: Split) -> str:
    """Return a digest of a split's content, in hexadecimal.

    An array in memory is hashed. Images that are read when asked for may have `digests`, uint8 `[n, bytes]`; else an
    evenly spaced sample represents them, because reading all of them could take minutes.
    """
    images = split.images
    digest = hashlib.sha256(str((*images.shape, split.labels is not None)).encode())
    if (digests := getattr(images, "digests", None)) is not None:
        digest.update(np.ascontiguousarray(digests).data)
    elif type(images) is np.ndarray:
        digest.update(np.ascontiguousarray(images).data)
    else:
        most = min(SAMPLE_IMAGES, max(SAMPLE_BYTES // math.prod(images.shape[1:]), 1))
        places = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).astype(np.int64))
        digest.update(np.ascontiguousarray(images[places]).data)
    if split.labels is not None:
        digest.update(str(np.asarray(split.labels).tolist()).encode())
    return digest.hexdigest()[:32]


def mean_image(images: Images) -> NDArray[np.float64]:
    """Return the mean of images, in [0, 1], `[height, width, channels]`, the same in every process.

    Few of them are in memory at a time. A sum of integers has no rounding that an order could change.
    """
    chunk = max(CHUNK_BYTES // math.prod(images.shape[1:]), 1)
    total = np.zeros(images.shape[1:], np.uint64)
    for first in range(0, len(images), chunk):
        total += np.asarray(images[first : first + chunk]).sum(axis=0, dtype=np.uint64)
    return total / (255 * len(images))


def is_fingerprint(value: object) -> TypeGuard[Fingerprint]:
    """Return whether a stored value has the form of `Dataset.fingerprint`."""
    return isinstance(value, dict) and all(
        isinstance(split, dict) and type(split.get("images")) is int and isinstance(split.get("content"), str)
        for split in value.values()
    )


def data_changes(then: Fingerprint, now: Fingerprint) -> str:
    """Describe how the data differs between two fingerprints; return "" where it does not, or `then` is empty."""
    changes = []
    for name in dict.fromkeys([*then, *now]) if then else ():
        before, after = (int(split.get(name, {}).get("images", 0)) for split in (then, now))
        if before != after:
            changes.append(f"{name}: {counted(before, 'image')} then, {after:,} now")
        elif then.get(name) != now.get(name):
            changes.append(f"{name}: the same number, {before}, of other content")
    return "; ".join(changes)


def split_sizes(count: int, fraction: float, what: str) -> tuple[int, int]:
    """Return how many of `count` images stay, and are split off; refuse a fraction above 0 that leaves either none."""
    part = max(1, round(count * fraction)) if fraction > 0 else 0
    if part >= count:
        raise UserError(
            f"dataset.{what}={fraction:g} of {counted(count, 'image')} is {part}: both parts need at least one image"
        )
    return count - part, part


def log_limit(limit: int | None, sizes: dict[str, int]) -> None:
    """Log the splits that have fewer images than `limit`: all of them are taken."""
    fewer = [f"{size} {name}" for name, size in sizes.items() if limit is not None and 0 < size < limit]
    if fewer:
        log.info("dataset.limit=%d: there are only %s images, all of which are taken", limit, " and ".join(fewer))


def fixed_order(count: int) -> NDArray[np.int64]:
    """Return a random permutation of `count` indices that is the same in every run."""
    return np.random.default_rng(SPLIT_SEED).permutation(count)


def make_dataset(
    train: Split,
    test: Split,
    label_names: Sequence[str],
    limit: int | None,
    validation_fraction: float,
    image_size: int | None = None,
) -> Dataset:
    """Return a dataset of grey images in memory.

    Validation images are split off training, splits are cut to `limit`, and images resized to `image_size`.
    """
    kept, part = split_sizes(len(train), validation_fraction, "validation_fraction")
    log_limit(limit, {"training": kept, "validation": part, "test": len(test)})
    validation = None
    if part:
        order = fixed_order(len(train))
        validation = train.select(np.sort(order[:part]))
        train = train.select(np.sort(order[part:]))
    if limit is not None:
        train, test = train.first(limit), test.first(limit)
        validation = None if validation is None else validation.first(limit)

    def sized(split: Split) -> Split:
        return split if image_size is None else replace(split, images=resized(np.asarray(split.images), image_size))

    return Dataset(sized(train), sized(test), None if validation is None else sized(validation), label_names)


def check_dataset(dataset: Dataset) -> None:
    """Refuse images of a kind, shape or size that cannot be trained on, and labels that are not theirs."""
    for name, split in dataset.splits.items():
        shape, kind = split.images.shape, split.images.dtype
        if kind != np.uint8 or len(shape) != 4 or len(split) == 0 or shape[1:] != dataset.train.images.shape[1:]:
            raise UserError(
                f"the dataset's {name} images are {kind} of shape {shape}: they must be uint8, "
                "[n, height, width, channels], at least one, and of the same size in every split"
            )
        if split.labels is not None and len(split.labels) != len(split):
            labels = counted(len(split.labels), "label")
            raise UserError(f"the dataset has {counted(len(split), f'{name} image')} and {labels} of them")
    check_factors(dataset)
    height, width, channels = dataset.image_shape
    if min(height, width) < 8 or channels not in (1, 3):
        raise UserError(
            f"the dataset's images are {height}×{width}×{channels}: they must be at least 8×8, with 1 or 3 channels"
        )


def check_factors(dataset: Dataset) -> None:
    """Refuse factors without a name and a size each, of some images only, or with values that their sizes exclude."""
    sizes = np.array(dataset.factor_sizes, np.int64)
    if len(sizes) != len(dataset.factor_names):
        raise UserError(f"the dataset has {len(dataset.factor_names)} names of factors, and sizes of {len(sizes)}")
    for name, split in dataset.splits.items():
        factors = split.factors
        if (factors is None) != (len(sizes) == 0):
            raise UserError(
                f"the dataset has factors {list(dataset.factor_names)}: its {name} images need them, or none"
            )
        if factors is None:
            continue
        if factors.shape != (len(split), len(sizes)) or not np.issubdtype(factors.dtype, np.integer):
            raise UserError(
                f"the factors of the dataset's {name} images are {factors.dtype} of shape {factors.shape}: "
                f"they must be integers, ({len(split)}, {len(sizes)})"
            )
        if (factors < 0).any() or (factors >= sizes).any():
            raise UserError(f"the dataset's {name} images have values of factors below 0, or not below their sizes")


def check_labels(dataset: Dataset) -> None:
    """Refuse labels that are no indices of classes, where these are needed."""
    for name, split in dataset.splits.items():
        labels = np.asarray(split.labels)
        if labels.min() < 0 or labels.max() >= dataset.classes:
            raise UserError(
                f"the dataset's {name} images have labels from {labels.min()} to {labels.max()}: they must be from 0 "
                f"to {dataset.classes - 1}, the index of each image's class"
            )
