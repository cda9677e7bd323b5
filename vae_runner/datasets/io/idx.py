"""Datasets of four IDX files (MNIST and others of its format): the format, and where the files are found.

The format, from MNIST's own page: two zero bytes, a type code (0x08: unsigned byte), the number of dimensions, each
dimension's size as a big-endian 32-bit integer, then the values, the last dimension fastest.
"""

import gzip
import hashlib
import io
import logging
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset, Split, make_dataset
from vae_runner.datasets.io.download import download
from vae_runner.errors import UserError, counted
from vae_runner.files.untrusted import is_file, readable

log = logging.getLogger(__name__)

KERAS_FOLDERS = {"fashion": "fashion-mnist"}  # Keras caches Fashion-MNIST's own files; of MNIST it caches mnist.npz.
MAX_BYTES = 1 << 30  # of an unpacked file: twenty times MNIST's largest, and it has to fit into memory
MAX_DOWNLOAD = 1 << 28  # of a packed one
BLOCK = 1 << 20

Parts = dict[str, tuple[str, NDArray[np.uint8]]]  # by a file's part of the dataset: where it is from, and its content

# What zipfile and NumPy raise on a damaged archive, besides the errors of the disk.
UNREADABLE_NPZ = (
    OSError, ValueError, LookupError, EOFError, RuntimeError, SyntaxError, TypeError, ArithmeticError, MemoryError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class IdxFile(NamedTuple):
    """An IDX file of a known dataset: its official name without `.gz`, and the MD5 of its decompressed content."""

    name: str
    md5: str


@dataclass(frozen=True)
class IdxDataset:
    """A published dataset of four IDX files: `train_images`, `train_labels`, `test_images` and `test_labels`."""

    name: str
    files: dict[str, IdxFile]
    label_names: Sequence[str]

    def load(
        self,
        *,
        root: str | None,
        data_dir: str,
        url: str,
        limit: int | None = None,
        validation_fraction: float = 0.0,
        image_size: int | None = None,
    ) -> Dataset:
        """Return the dataset from `root`, else a folder of its name in `data_dir`, else Keras's cache, else `url`.

        Raises:
            UserError: a file is missing where it has to be, is damaged, or does not fit its companion; or there is no
                network to get it from.
        """
        own = Path(data_dir).expanduser() / self.name
        parts = self._keras_npz() if root is None and not self._are_in(own) else None
        if parts is None:
            folder = self._downloaded(own, url) if root is None else self._given(root)
            paths = {part: _path(folder, file) for part, file in self.files.items()}
            parts = {part: (str(path), read_idx(path, 3 if "images" in part else 1)) for part, path in paths.items()}
        train, test = (_split(parts, split, len(self.label_names)) for split in ("train", "test"))
        self._warn_of_other_content(parts)
        if train.images.shape[1:] != test.images.shape[1:]:
            sizes = ["×".join(map(str, split.images.shape[1:3])) for split in (train, test)]
            raise UserError(
                f"{parts['train_images'][0]} holds images of {sizes[0]} pixels, {parts['test_images'][0]} of "
                f"{sizes[1]}: they do not belong together; get both again"
            )
        return make_dataset(train, test, self.label_names, limit, validation_fraction, image_size)

    def _are_in(self, folder: Path) -> bool:
        return all(_path(folder, file).exists() for file in self.files.values())

    def _given(self, root: str) -> Path:
        folder = Path(root).expanduser()
        for file in self.files.values():
            if not _path(folder, file).exists():
                raise UserError(f"dataset.root={root}: there is no {file.name}.gz (or {file.name}) in it")
        return folder

    def _downloaded(self, own: Path, url: str) -> Path:
        """Return the folder that holds the four files: `own` or Keras's, else `own` after their download."""
        keras = [_keras_datasets() / KERAS_FOLDERS[self.name]] if self.name in KERAS_FOLDERS else []
        for folder in (own, *keras):
            if self._are_in(folder):
                return folder
        for file in self.files.values():
            if not _path(own, file).exists():
                download(
                    f"{url.rstrip('/')}/{file.name}.gz", own / f"{file.name}.gz", check=partial(_check_md5, file),
                    advice="or use dataset=digits, which needs no download", max_bytes=MAX_DOWNLOAD,
                )  # fmt: skip
        return own

    def _keras_npz(self) -> Parts | None:
        """Return MNIST as Keras caches it, or None."""
        path = _keras_datasets() / f"{self.name}.npz"
        with readable(path):
            if self.name in KERAS_FOLDERS or not path.exists():
                return None
        keys = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}
        try:
            if not path.is_file():
                raise ValueError("it is no file")
            with readable(path), zipfile.ZipFile(path) as archive:
                return {part: (f"{path} ({key})", _npz_array(archive, key, part)) for part, key in keys.items()}
        except UNREADABLE_NPZ as error:
            raise UserError(
                f"{path}, which Keras keeps, cannot be read ({error}): delete it, or give dataset.root"
            ) from error

    def _warn_of_other_content(self, parts: Parts) -> None:
        """Log which files are not the published ones: others of that format may be meant, or a bit has flipped."""
        other = []
        for part, (at, array) in parts.items():
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            digest = hashlib.md5(header, usedforsecurity=False)
            digest.update(np.ascontiguousarray(array).data)
            if digest.hexdigest() != self.files[part].md5:
                other.append(at)
        if other:
            log.warning("Not the published content of %s, but taken as it is: %s", self.name, ", ".join(other))


def _split(parts: Parts, name: str, classes: int) -> Split:
    """Return a split of images and labels that fit each other."""
    images_at, images = parts[f"{name}_images"]
    labels_at, labels = parts[f"{name}_labels"]
    if len(images) != len(labels):
        raise UserError(
            f"{images_at} holds {counted(len(images), 'image')}, {labels_at} {counted(len(labels), 'label')}: they "
            "do not belong together; "
            "get both again"
        )
    if images.size == 0:
        raise UserError(f"{images_at} holds no image: it is another file; replace it")
    if (largest := labels.max()) >= classes:
        raise UserError(
            f"{labels_at} has class {largest}, but there are {classes} from 0: it is another file; replace it"
        )
    return Split(images[..., np.newaxis], labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file, gzipped or not; little more is read than its header announces.

    Raises:
        UserError: the file cannot be read, is no IDX file of unsigned bytes with so many dimensions, is larger than
            `MAX_BYTES`, or is longer or shorter than its header says.
    """
    if not is_file(path) and path.exists():
        raise UserError(f"{path} is no file but a folder, a pipe or a device: replace it")
    try:
        with readable(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            shape = _shape(path, stream.read(4 + 4 * dimensions), dimensions)
            content = np.empty(math.prod(shape), np.uint8)
            got = 0
            while read := stream.readinto(content[got : got + BLOCK].data):
                got += read
            excess = len(stream.read(BLOCK))  # At the end of a gzip file this compares its checksum.
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): it is damaged; delete it and get it again") from error
    if got < len(content) or excess:
        follow = f"{got + excess}{' or more' if excess == BLOCK else ''}"
        raise UserError(
            f"{path} says it holds {'×'.join(map(str, shape))} bytes, but {follow} follow its header: "
            "it is damaged or cut off; delete it and get it again"
        )
    return content.reshape(shape)


def _shape(path: Path, header: bytes, dimensions: int) -> tuple[int, ...]:
    """Return the shape in the header of an IDX file."""
    expected = bytes([0, 0, 8, dimensions])
    if header[:4] != expected:
        raise UserError(
            f"{path} starts with {header[:4].hex() or 'nothing'} where an IDX file of {dimensions} dimensions starts "
            f"with {expected.hex()}: it is another file; replace it"
        )
    if len(header) < 4 + 4 * dimensions:
        raise UserError(f"{path} ends within its header: it is cut off; delete it and get it again")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if math.prod(shape) > MAX_BYTES:
        raise UserError(
            f"{path} says it holds {'×'.join(map(str, shape))} bytes, and more than {MAX_BYTES:,} are not read: "
            "it is damaged, or another file; replace it"
        )
    return shape


def _path(folder: Path, file: IdxFile) -> Path:
    """Return where `file` is in `folder`, or would be: gzipped or not, with a hyphen or a dot in its name."""
    names = [f"{name}{suffix}" for name in (file.name, file.name.replace("-idx", ".idx")) for suffix in (".gz", "")]
    paths = [folder / name for name in names]
    with readable(folder):
        there = [path for path in paths if path.is_file()] or [path for path in paths if path.exists()]
    return there[0] if there else folder / file.name


def _check_md5(file: IdxFile, path: Path) -> str | None:
    """Return what is wrong with a downloaded gzip file, or None."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with gzip.open(path) as stream:
            unpacked = 0
            while block := stream.read(BLOCK):
                digest.update(block)
                unpacked += len(block)
                if unpacked > MAX_BYTES:
                    return f"unpacks to more than {MAX_BYTES:,} bytes"
    except (OSError, EOFError, zlib.error) as error:
        return f"is no complete gzip file ({error})"
    if digest.hexdigest() != file.md5:
        return f"has content of MD5 {digest.hexdigest()}, not {file.md5}"
    return None


def _keras_datasets() -> Path:
    """Return where Keras caches datasets, whether there is such a folder or not."""
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")) / "datasets"  # noqa: PTH111 (raises)


def _npz_array(archive: zipfile.ZipFile, key: str, part: str) -> NDArray[np.uint8]:
    """Return an array of an .npz, which is read to its end: there zipfile compares the checksum."""
    member = archive.getinfo(f"{key}.npy")
    if member.file_size > MAX_BYTES:
        raise ValueError(f"{key} has more than {MAX_BYTES:,} bytes")
    content = io.BytesIO(archive.read(member))
    array: NDArray[np.uint8] = np.lib.format.read_array(content, allow_pickle=False)
    if array.ndim != (3 if "images" in part else 1) or array.dtype != np.uint8 or content.read(1):
        raise ValueError(f"{key} holds {array.dtype} of {array.ndim} dimensions, or more than that")
    return array
