"""Any folder of images: found, put in a fixed order, split, and prepared as one array."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_runner.datasets.dataset import Dataset, Split, fixed_order, log_limit, split_sizes
from vae_runner.datasets.io.image_files import find_images, given_splits
from vae_runner.datasets.io.prepared import Preprocessing, prepare
from vae_runner.errors import UserError

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
    limit: int | None = None,
    test_fraction: float = 0.1,
    validation_fraction: float = 0.0,
    on_error: str = "stop",
) -> Dataset:
    """Return the images below `root`, decoded and resized once, into `data_dir`/prepared.

    The files are put into a fixed random order, those of each split if `root` has folders of splits, else all together:
    then its head is the test split. The validation split is what comes next, unless it has a folder. The array is
    prepared in the order test, validation, training, so each split is one contiguous piece of it.

    Raises:
        UserError: the folder is missing, unreadable or holds no image; an image is broken; the disk has no room.
    """
    if root is None:
        raise UserError("dataset.root is not given: say which folder the images are in (dataset.root=~/photos)")
    preprocessing = Preprocessing.parse(image_size, channels, background, crop)
    folder = Path(root).expanduser()
    found = find_images(folder)
    splits = {name: _shuffled(files) for name, files in given_splits(folder, found).items()}
    if found.passed_over:
        log.info("Passed over in %s: %s", folder, found.passed_over)
    if splits:
        sizes = " and ".join(f"{len(files)} {name}" for name, files in splits.items())
        log.info("The sub-folders of %s are splits, of %s images: no other test images are split off", folder, sizes)
        if "validation" in splits and validation_fraction:
            log.warning("dataset.validation_fraction is not used: %s has a folder of validation images", folder)
        test, validation, train = splits["test"], splits.get("validation", []), splits["train"]
    else:
        files = _shuffled(found.files)
        _, count = split_sizes(len(files), test_fraction, "test_fraction")
        test, validation, train = files[:count], [], files[count:]
    if not validation:
        _, count = split_sizes(len(train), validation_fraction, "validation_fraction")
        validation, train = train[:count], train[count:]
    log_limit(limit, {"training": len(train), "validation": len(validation), "test": len(test)})
    parts = [test, validation, train]
    chosen = [part[:limit] for part in parts]
    names, classes = (
        _classes(folder, [f for part in chosen for f in part], [f for part in parts for f in part], bool(splits))
        if labels == "folders"
        else ((), None)
    )
    images, kept = prepare([f for part in chosen for f in part], preprocessing, Path(data_dir).expanduser(), on_error)

    # Where images were skipped, each split is what is left of it.
    ends = np.searchsorted(kept, np.cumsum([len(part) for part in chosen]))
    starts = [0, *ends[:-1]]
    images_of = [
        Split(images[start:end], None if classes is None else classes[kept][start:end])
        for start, end in zip(starts, ends, strict=True)
    ]
    for name, part, split in zip(("test", "validation", "training"), chosen, images_of, strict=True):
        if part and len(split) == 0:
            raise UserError(f"{root}: no {name} image is left: every one of them was broken and skipped")
    return Dataset(images_of[2], images_of[0], images_of[1] if len(images_of[1]) else None, names)


def _shuffled(files: list[Path]) -> list[Path]:
    return [files[i] for i in fixed_order(len(files))]


def _classes(
    folder: Path, chosen: list[Path], found: list[Path], in_splits: bool
) -> tuple[Sequence[str], np.ndarray[Any, Any]]:
    """Names and indices of the classes: the sub-folder a file lies in, as a path below the dataset's folder or split.

    Raises:
        UserError: no image lies in a sub-folder.
    """

    def name(path: Path) -> str:
        return str(Path(*path.relative_to(folder).parts[in_splits:]).parent)

    names = sorted({name(path) for path in found})
    if names == [FLAT]:
        where = "the folders of the splits" if in_splits else folder
        raise UserError(
            f"dataset.labels=folders: all images lie directly in {where}, so that there are no classes: "
            "put those of a class into a sub-folder, or leave dataset.labels out"
        )
    if FLAT in names:
        count = sum(name(path) == FLAT for path in found)
        log.info("%d images lie in no sub-folder of their own: their class is '%s'", count, FLAT)
    index = {known: i for i, known in enumerate(names)}
    return names, np.array([index[name(path)] for path in chosen], np.int64)
