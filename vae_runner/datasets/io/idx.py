"""The IDX format of MNIST and its kin, and where their four files are found.

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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_runner.datasets.dataset import Dataset, Split, make_dataset
from vae_runner.datasets.io.download import download
from vae_runner.errors import UserError
from vae_runner.files.untrusted import is_file, readable

log = logging.getLogger(__name__)

KERAS_FOLDERS = {"fashion": "fashion-mnist"}  # Keras keeps Fashion-MNIST's own files; of MNIST it keeps mnist.npz
MAX_BYTES = 1 << 30  # of an unpacked file: twenty times MNIST's largest, and it has to fit into memory
MAX_DOWNLOAD = 1 << 28  # of a packed one
BLOCK = 1 << 20

# What zipfile and NumPy raise on a damaged archive, besides the errors of the disk.
UNREADABLE_NPZ = (
    OSError, ValueError, LookupError, EOFError, RuntimeError, SyntaxError, TypeError, ArithmeticError, MemoryError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


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
    """Return the dataset of four IDX files, `train_images`, `train_labels`, `test_images` and `test_labels`.

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
    _warn_of_other_content(name, files, parts)
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = ["×".join(map(str, split.images.shape[1:3])) for split in (train, test)]
        raise UserError(
            f"{parts['train_images'][0]} holds images of {sizes[0]} pixels, {parts['test_images'][0]} of {sizes[1]}: "
            "they do not belong together; get both again"
        )
    return make_dataset(train, test, label_names, limit, validation_fraction)


def _split(images_at: str, images: np.ndarray[Any, Any], labels_at: str, labels: np.ndarray[Any, Any], n: int) -> Split:
    """Return a split of images and their labels, `n` classes of them, once they are seen to fit each other."""
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
    """Return the uint8 array in an IDX file, gzipped or not; little more of it is read than its header says.

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
            excess = len(stream.read(BLOCK))  # at the end of a gzip file this compares its checksum
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
    """Return the shape that the header of an IDX file says."""
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


def _warn_of_other_content(
    name: str, files: dict[str, IdxFile], parts: dict[str, tuple[str, np.ndarray[Any, Any]]]
) -> None:
    """Say which files are not those that were published: others of that format may be meant, or a bit has turned."""
    other = []
    for part, (at, array) in parts.items():
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        digest = hashlib.md5(header, usedforsecurity=False)
        digest.update(np.ascontiguousarray(array).data)
        if digest.hexdigest() != files[part].md5:
            other.append(at)
    if other:
        log.warning("Not the published content of %s, but taken as it is: %s", name, ", ".join(other))


def _path(folder: Path, file: IdxFile) -> Path:
    """Where `file` is in `folder`, or would be: gzipped or not, with a hyphen or, as some have it, a dot."""
    names = [f"{name}{suffix}" for name in (file.name, file.name.replace("-idx", ".idx")) for suffix in (".gz", "")]
    paths = [folder / name for name in names]
    with readable(folder):
        there = [path for path in paths if path.is_file()] or [path for path in paths if path.exists()]
    return there[0] if there else folder / file.name


def _find(folder: Path, files: dict[str, IdxFile]) -> bool:
    return all(_path(folder, file).exists() for file in files.values())


def _folder(name: str, files: dict[str, IdxFile], root: str | None, data_dir: Path, url: str) -> Path:
    """Return the folder that holds the four files, downloaded into it if need be."""
    if root is not None:
        given = Path(root).expanduser()
        for file in files.values():
            if not _path(given, file).exists():
                raise UserError(f"dataset.root={root}: there is no {file.name}.gz (or {file.name}) in it")
        return given
    candidates = [data_dir / name]
    if name in KERAS_FOLDERS:
        candidates.append(_keras_datasets() / KERAS_FOLDERS[name])
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
                max_bytes=MAX_DOWNLOAD,
            )
    return candidates[0]


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
        return f"is no whole gzip file ({error})"
    if digest.hexdigest() != file.md5:
        return f"has content of MD5 {digest.hexdigest()}, not {file.md5}"
    return None


def _keras_datasets() -> Path:
    """Where Keras keeps datasets; nothing is there where there is no home."""
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")) / "datasets"  # noqa: PTH111 (raises)


def _keras_npz(name: str) -> dict[str, tuple[str, np.ndarray[Any, Any]]] | None:
    """MNIST as Keras caches it, each array with where it is from, or None."""
    path = _keras_datasets() / f"{name}.npz"
    with readable(path):
        if name in KERAS_FOLDERS or not path.exists():
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


def _npz_array(archive: zipfile.ZipFile, key: str, part: str) -> np.ndarray[Any, Any]:
    """Return an array of an .npz, which is read to its end: there zipfile compares the checksum."""
    member = archive.getinfo(f"{key}.npy")
    if member.file_size > MAX_BYTES:
        raise ValueError(f"{key} has more than {MAX_BYTES:,} bytes")
    content = io.BytesIO(archive.read(member))
    array: np.ndarray[Any, Any] = np.lib.format.read_array(content, allow_pickle=False)
    if array.ndim != (3 if "images" in part else 1) or array.dtype != np.uint8 or content.read(1):
        raise ValueError(f"{key} holds {array.dtype} of {array.ndim} dimensions, or more than that")
    return array
