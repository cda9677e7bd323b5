"""The IDX format of MNIST and its kin, and where their four files are found.

The format, from MNIST's own page: two zero bytes, a type code (0x08: unsigned byte), the number of dimensions, each
dimension's size as a big-endian 32-bit integer, then the values, the last dimension fastest.
"""

import gzip
import hashlib
import logging
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_runner.datasets import Dataset, Split, make_dataset
from vae_runner.datasets.download import download
from vae_runner.errors import UserError

log = logging.getLogger(__name__)

KERAS_FOLDERS = {"fashion": "fashion-mnist"}  # Keras keeps Fashion-MNIST's own files; of MNIST it keeps mnist.npz
MD5_BLOCK = 1 << 20


class IdxFile(NamedTuple):
    """An IDX file of a known dataset: its official name without `.gz`, and the MD5 of its decompressed content."""

    name: str
    md5: str


def load_idx_dataset(
    name: str,
    files: dict[str, IdxFile],
    label_names: Sequence[str],
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None,
    validation_fraction: float,
) -> Dataset:
    """The dataset of four IDX files, `train_images`, `train_labels`, `test_images` and `test_labels`.

    Raises:
        UserError: a file is missing where it has to be, is damaged, or does not fit its companion; or there is no
            network to get it from.
    """
    parts = _keras_npz(name) if root is None and not _find(Path(data_dir).expanduser() / name, files) else None
    if parts is None:
        folder = _folder(name, files, root, Path(data_dir).expanduser(), url)
        paths = {part: _path(folder, file) for part, file in files.items()}
        parts = {part: (str(path), read_idx(path, 3 if "images" in part else 1)) for part, path in paths.items()}
    train, test = (
        _split(*parts[f"{split}_images"], *parts[f"{split}_labels"], len(label_names)) for split in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = ["×".join(map(str, split.images.shape[1:3])) for split in (train, test)]
        raise UserError(
            f"{parts['train_images'][0]} holds images of {sizes[0]} pixels, {parts['test_images'][0]} of {sizes[1]}: "
            "they do not belong together; get both again"
        )
    return make_dataset(train, test, label_names, limit, validation_fraction)


def _split(images_at: str, images: np.ndarray[Any, Any], labels_at: str, labels: np.ndarray[Any, Any], n: int) -> Split:
    """A split of images and their labels, `n` classes of them, once they are seen to fit each other."""
    if len(images) != len(labels):
        raise UserError(
            f"{images_at} holds {len(images)} images, {labels_at} {len(labels)} labels: they do not belong together; "
            "get both again"
        )
    if images.size == 0:
        raise UserError(f"{images_at} holds no image: it is another file; replace it")
    if labels.max() >= n:
        raise UserError(
            f"{labels_at} has class {labels.max()}, but there are {n} from 0: it is another file; replace it"
        )
    return Split(images[..., np.newaxis], labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray[Any, Any]:
    """The uint8 array in an IDX file, gzipped or not.

    Raises:
        UserError: the file cannot be read, is no IDX file of unsigned bytes with so many dimensions, or is cut off.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): it is damaged; delete it and get it again") from error
    expected = bytes([0, 0, 8, dimensions])
    if content[:4] != expected:
        raise UserError(
            f"{path} starts with {content[:4].hex() or 'nothing'} where an IDX file of {dimensions} dimensions starts "
            f"with {expected.hex()}: it is another file; replace it"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise UserError(f"{path} ends within its header: it is cut off; delete it and get it again")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} says it holds {'×'.join(map(str, shape))} bytes, but {len(content) - start} follow its header: "
            "it is damaged or cut off; delete it and get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _path(folder: Path, file: IdxFile) -> Path:
    zipped = folder / f"{file.name}.gz"
    return zipped if zipped.exists() else folder / file.name


def _find(folder: Path, files: dict[str, IdxFile]) -> bool:
    return all(_path(folder, file).exists() for file in files.values())


def _folder(name: str, files: dict[str, IdxFile], root: str | None, data_dir: Path, url: str) -> Path:
    """The folder that holds the four files, downloaded into it if need be."""
    if root is not None:
        given = Path(root).expanduser()
        for file in files.values():
            if not _path(given, file).exists():
                raise UserError(f"dataset.root={root}: there is no {file.name}.gz (or {file.name}) in it")
        return given
    keras_home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    candidates = [data_dir / name]
    if name in KERAS_FOLDERS:
        candidates.append(keras_home / "datasets" / KERAS_FOLDERS[name])
    for folder in candidates:
        if _find(folder, files):
            return folder
    for file in files.values():
        if not _path(candidates[0], file).exists():
            download(
                f"{url.rstrip('/')}/{file.name}.gz",
                candidates[0] / f"{file.name}.gz",
                check=partial(_check_md5, file),
                advice="or use dataset=digits, which needs no download",
            )
    return candidates[0]


def _check_md5(file: IdxFile, path: Path) -> str | None:
    """What is wrong with a downloaded gzip file, or None."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with gzip.open(path) as stream:
            while block := stream.read(MD5_BLOCK):
                digest.update(block)
    except (OSError, EOFError, zlib.error) as error:
        return f"is no whole gzip file ({error})"
    if digest.hexdigest() != file.md5:
        return f"has content of MD5 {digest.hexdigest()}, not {file.md5}"
    return None


def _keras_npz(name: str) -> dict[str, tuple[str, np.ndarray[Any, Any]]] | None:
    """MNIST as Keras caches it, each array with where it is from, or None."""
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets" / f"{name}.npz"
    if name in KERAS_FOLDERS or not path.exists():
        return None
    keys = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = {part: (f"{path} ({key})", archive[key].astype(np.uint8)) for part, key in keys.items()}
        for part, (_, array) in parts.items():
            if array.ndim != (3 if "images" in part else 1):
                raise ValueError(f"{keys[part]} has {array.ndim} dimensions")
        return parts
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}, which Keras keeps, cannot be read ({error}): delete it, or give dataset.root"
        ) from error
