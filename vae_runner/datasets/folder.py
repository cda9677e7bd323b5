"""A folder of images: found, put in a fixed order, split, and prepared as one array."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_runner.datasets.dataset import Dataset, Labels, Split, fixed_order, log_limit, split_sizes
from vae_runner.datasets.io.factor_table import read_factors
from vae_runner.datasets.io.image_files import find_images, given_splits
from vae_runner.datasets.io.prepared import prepare
from vae_runner.datasets.io.preprocessing import Preprocessing
from vae_runner.errors import UserError, counted

log = logging.getLogger(__name__)

FLAT = "."  # the class of images that lie in no sub-folder, where others do


def load(
    *,
    root: str | None,
    data_dir: str,
    image_size: int | Sequence[int],
    channels: int = 3,
    background: str | Sequence[int] = "white",
    crop: bool = False,
    labels: str | None = None,
    factors: str | None = None,
    limit: int | None = None,
    test_fraction: float = 0.1,
    validation_fraction: float = 0.0,
    on_error: str = "stop",
) -> Dataset:
    """Return the images below `root`, decoded and resized once, into `data_dir`/prepared.

    In a fixed random order, the first files are the test split, unless `root` has folders of splits; the next are the
    validation split, unless it has a folder. The array is prepared in the order test, validation, training, so that
    each split is a contiguous piece of it. `factors` is a CSV of the factors of all images.

    Raises:
        UserError: the folder is missing, unreadable or holds no image; an image is broken; the disk has no room;
            `factors` are not those of the images.
    """
    if root is None:
        raise UserError("dataset.root is not given: say which folder the images are in (dataset.root=~/photos)")
    preprocessing = Preprocessing.parse(image_size, channels, background, crop)
    folder = Path(root).expanduser()
    found = find_images(folder)
    given = given_splits(folder, found)
    if found.passed_over:
        log.info("Passed over in %s: %s", folder, found.passed_over)
    splits = _split(folder, found.files, given, test_fraction, validation_fraction)
    log_limit(limit, {name: len(splits[name]) for name in ("training", "validation", "test")})
    chosen = {name: files[:limit] for name, files in splits.items()}
    files = [file for part in chosen.values() for file in part]
    names, classes = _classes(folder, files, splits, bool(given)) if labels == "folders" else ((), None)
    known = [file for part in splits.values() for file in part] if factors else []
    table = read_factors(Path(factors).expanduser(), folder, known) if factors else None
    images, kept = prepare(files, preprocessing, Path(data_dir).expanduser(), on_error)

    places = {file: place for place, file in enumerate(known)}
    prepared = Split(
        images,
        None if classes is None else classes[kept],
        None if table is None else table.factors[[places[files[index]] for index in kept]],
    )
    ends = np.searchsorted(kept, np.cumsum([len(part) for part in chosen.values()]))  # Broken images were skipped.
    parts: dict[str, Split] = {}
    for name, start, end in zip(chosen, [0, *ends[:-1]], ends, strict=True):
        if chosen[name] and start == end:
            raise UserError(f"{root}: no {name} image is left: every one of them was broken and skipped")
        parts[name] = prepared.select(slice(start, end))
    return Dataset(
        parts["training"],
        parts["test"],
        parts["validation"] if len(parts["validation"]) else None,
        names,
        factor_names=table.names if table else (),
        factor_sizes=table.sizes if table else (),
    )


def _split(
    folder: Path, found: list[Path], given: dict[str, list[Path]], test_fraction: float, validation_fraction: float
) -> dict[str, list[Path]]:
    """Return the files of each split in a fixed random order: of the given splits, else of all files together."""
    if given:
        test, validation, train = (_shuffled(given.get(name, [])) for name in ("test", "validation", "train"))
        sizes = " and ".join(f"{len(files)} {name}" for name, files in given.items())
        log.info("The sub-folders of %s are splits, of %s images: no other test images are split off", folder, sizes)
        if validation and validation_fraction:
            log.warning("dataset.validation_fraction is not used: %s has a folder of validation images", folder)
    else:
        files = _shuffled(found)
        _, count = split_sizes(len(files), test_fraction, "test_fraction")
        test, validation, train = files[:count], [], files[count:]
    if not validation:
        _, count = split_sizes(len(train), validation_fraction, "validation_fraction")
        validation, train = train[:count], train[count:]
    return {"test": test, "validation": validation, "training": train}


def _shuffled(files: list[Path]) -> list[Path]:
    return [files[i] for i in fixed_order(len(files))]


def _classes(
    folder: Path, files: list[Path], splits: dict[str, list[Path]], in_splits: bool
) -> tuple[Sequence[str], Labels]:
    """Return all classes' names, and each file's class, its sub-folder's index; refuse if no file is in one."""

    def name(path: Path) -> str:
        return str(Path(*path.relative_to(folder).parts[in_splits:]).parent)

    found = [name(path) for paths in splits.values() for path in paths]
    names = sorted(set(found))
    if names == [FLAT]:
        where = "the folders of the splits" if in_splits else folder
        raise UserError(
            f"dataset.labels=folders: all images lie directly in {where}, so that there are no classes: "
            "put those of a class into a sub-folder, or leave dataset.labels out"
        )
    if FLAT in names:
        log.info("Without a sub-folder of their own: %s, of the class '%s'", counted(found.count(FLAT), "image"), FLAT)
    index = {known: i for i, known in enumerate(names)}
    return names, np.array([index[name(path)] for path in files], np.int64)
