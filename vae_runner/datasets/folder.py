"""Any folder of images: found, put in a fixed order, split, and prepared as one array."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_runner.datasets import Dataset, Split, fixed_order, log_limit, split_sizes
from vae_runner.datasets.prepared import Preprocessing, prepare
from vae_runner.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


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
    """The images below `root`, decoded and resized once, into `data_dir`/prepared.

    The files are put into a fixed random order: its head is the test split, then comes the validation split, then the
    training split. So each split is one contiguous piece of the prepared array.

    Raises:
        UserError: the folder is missing, unreadable or holds no image; an image is broken; the disk has no room.
    """
    if root is None:
        raise UserError("dataset.root is not given: say which folder the images are in (dataset.root=~/photos)")
    preprocessing = Preprocessing.parse(image_size, channels, background, crop)
    folder = Path(root).expanduser()
    found = find_images(folder)
    files = [found[i] for i in fixed_order(len(found))]

    rest, test = split_sizes(len(files), test_fraction, "test_fraction")
    train, validation = split_sizes(rest, validation_fraction, "validation_fraction")
    log_limit(limit, {"training": train, "validation": validation, "test": test})
    parts = [files[:test], files[test : test + validation], files[test + validation :]]
    chosen = [part[:limit] for part in parts]
    images, kept = prepare([f for part in chosen for f in part], preprocessing, Path(data_dir).expanduser(), on_error)

    # Where images were skipped, each split is what is left of it.
    ends = np.searchsorted(kept, np.cumsum([len(part) for part in chosen]))
    starts = [0, *ends[:-1]]
    names, classes = (
        _classes(folder, [f for part in chosen for f in part], found) if labels == "folders" else ((), None)
    )
    splits = [
        Split(images[start:end], None if classes is None else classes[kept][start:end])
        for start, end in zip(starts, ends, strict=True)
    ]
    for name, part, split in zip(("test", "validation", "training"), chosen, splits, strict=True):
        if part and len(split) == 0:
            raise UserError(f"{root}: no {name} image is left: every one of them was broken and skipped")
    return Dataset(splits[2], splits[0], splits[1] if len(splits[1]) else None, names)


def find_images(folder: Path) -> list[Path]:
    """The image files below `folder`, by their suffix, sorted by path.

    Raises:
        UserError: the folder does not exist, cannot be read, is empty, or holds no image.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"dataset.root={folder} {what}: give the folder the images are in")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): mend its permissions, or move it away")

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, n) for n in names if Path(n).suffix.lower() in SUFFIXES and not n.startswith(".")]
    if not found:
        raise UserError(f"dataset.root={folder} holds no image: looked below it for {', '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _classes(folder: Path, files: list[Path], found: list[Path]) -> tuple[Sequence[str], np.ndarray[Any, Any]]:
    """Names and indices of the classes: the sub-folder a file lies in, as a path below the dataset's folder."""
    names = sorted({str(f.parent.relative_to(folder)) for f in found})
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[str(f.parent.relative_to(folder))] for f in files], np.int64)
