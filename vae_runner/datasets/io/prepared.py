"""Image files, decoded and resized once into one file, an array of bytes.

`data_dir/prepared/<key>/` holds `images.u8`, the raw bytes of a uint8 array, and `manifest.json`, which describes them.
The key is a digest of the files (path, size, modification time) and of the preprocessing. A folder is filled under a
name of the process that does it, and renamed when it is complete; what a killed process left is deleted by the next.
A damaged folder is made again.
"""

import hashlib
import json
import logging
import math
import os
import platform
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.io.preprocessing import BrokenImageError, Preprocessing, none_usable
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.errors import UserError, counted
from vae_runner.files.sealed import seal, unseal
from vae_runner.files.untrusted import DamagedError, json_object, readable
from vae_runner.runtime.console import progress_bar
from vae_runner.runtime.environment import threads

log = logging.getLogger(__name__)

FORMAT = 2  # of the folder, and of what the preprocessing does to a pixel: raise it when either changes
CHECKSUM = "sha256"  # the key of it in the manifest
FILES = frozenset({"manifest.json", "images.u8"})  # in each folder
SPARE_BYTES = 64 << 20  # left free on the disk
QUIET_SECONDS = 60.0  # after which the unfinished folder of a dead process is deleted
DIGEST_BYTES = 8  # of an image's pixels: enough to tell that it is another one
UNFINISHED = f"unfinished-{platform.node()}-"  # begins the names of this machine's unfinished folders
WINDOW = 64  # images being decoded or waiting at a time, so that memory stays flat


class Manifest(TypedDict, total=False):
    """The content of manifest.json."""

    shape: Sequence[int]  # [n, height, width, channels]
    skipped: Sequence[tuple[int, str]]  # the index of each file that is no usable image, and why
    preprocessing: dict[str, object]
    digests: str  # DIGEST_BYTES of each image's SHA-256, in hexadecimal


def prepare(
    files: Sequence[Path], preprocessing: Preprocessing, data_dir: Path, on_error: str
) -> tuple[StoredImages, NDArray[np.int64]]:
    """Return the prepared images of `files`, made now or opened from an earlier run.

    Returns:
        images: uint8 `[n, height, width, channels]`, read when asked for.
        kept: int64 `[n]`, the index in `files` of each image; all of them but for those skipped.

    Raises:
        UserError: an image is broken and `on_error` is "stop"; the disk has no room, or `data_dir` cannot be written.
    """
    folder = data_dir / "prepared" / key_of(files, asdict(preprocessing))
    manifest = _read_manifest(folder, len(files), preprocessing)
    if manifest is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            delete_leftovers(folder)
            check_room(len(files), preprocessing.shape, folder)
            _make(files, preprocessing, folder, on_error)
        except OSError as error:
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        manifest = _read_manifest(folder, len(files), preprocessing)
        if manifest is None:
            raise UserError(f"{folder} was changed while it was made: start again, or give another data_dir")
    skipped = manifest["skipped"]
    if skipped and on_error == "stop":
        raise UserError(skipped[0][1])
    if skipped:
        log.info("Skipped %d of %s; the first: %s", len(skipped), counted(len(files), "image"), skipped[0][1])
    kept = np.setdiff1d(np.arange(len(files)), [index for index, _ in skipped])
    if len(kept) == 0:
        raise none_usable(len(files), skipped[0][1])
    digests = np.frombuffer(bytes.fromhex(manifest["digests"]), np.uint8).reshape(-1, DIGEST_BYTES)
    images = StoredImages(folder / "images.u8", tuple(manifest["shape"]), digests)
    log.info("Images: %d prepared as %s in %s", len(images), "×".join(map(str, preprocessing.shape)), folder)
    return images, kept


def key_of(files: Sequence[Path], preparation: object) -> str:
    """Return the name of the folder for what `preparation`, which JSON can hold, makes of files."""
    digest = hashlib.sha256(json.dumps([FORMAT, preparation]).encode())
    for path in files:
        try:
            status = path.stat()
            seen = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:  # It is gone, or a dangling link, which decoding will report.
            seen = "unreadable"
        digest.update(f"{path.absolute()}\0{seen}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _read_manifest(folder: Path, count: int, preprocessing: Preprocessing) -> Manifest | None:
    """Return the manifest of a folder prepared from so many files, or None where there is no usable one."""
    file, images = folder / "manifest.json", folder / "images.u8"
    try:
        with readable(folder):
            if not folder.exists():
                return None
            if file.is_file() and images.is_file():  # and neither is a pipe or a device
                manifest = unseal(json_object(file.read_bytes()), CHECKSUM)
                shape = (count - len(manifest["skipped"]), *preprocessing.shape)
                if (
                    tuple(manifest["shape"]) == shape
                    and len(bytes.fromhex(manifest["digests"])) == DIGEST_BYTES * shape[0]
                    and images.stat().st_size == math.prod(shape)
                ):
                    return cast(Manifest, manifest)
    except (DamagedError, OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    log.warning("What was prepared in %s is damaged: preparing it again", folder)
    return None


def check_room(count: int, shape: Sequence[int], folder: Path) -> None:
    """Say what is prepared in `folder`, so many images of this shape; refuse it where the disk has no room."""
    size = count * math.prod(shape)
    free = shutil.disk_usage(folder.parent).free
    log.info(
        "Preparing %s as %s in %s: %.1f MB", counted(count, "image"), "×".join(map(str, shape)), folder, size / 1e6
    )
    if size + SPARE_BYTES > free:
        raise UserError(
            f"preparing {counted(count, 'image')} takes {size / 1e6:,.0f} MB, and {folder.parent} has "
            f"{free / 1e6:,.0f} MB free: make room, give another data_dir, or take fewer with dataset.limit"
        )


def delete_leftovers(folder: Path) -> None:
    """Delete `folder` if it is there (it is damaged), and what dead processes of this machine left unfinished."""
    shutil.rmtree(folder, ignore_errors=True)
    for leftover in folder.parent.glob(f"{UNFINISHED}*"):
        process = leftover.name.removeprefix(UNFINISHED).partition("-")[0]
        if not process.isdecimal() or _is_alive(int(process)):
            continue
        with suppress(FileNotFoundError):  # Another process may be deleting it.
            quiet = time.time() - max(path.stat().st_mtime for path in [leftover, *leftover.iterdir()])
            if quiet > QUIET_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to be filled, which becomes `folder` at the end, or is deleted where filling it failed."""
    working = folder.parent / f"{UNFINISHED}{os.getpid()}-{secrets.token_hex(4)}"
    working.mkdir()  # not mkdtemp, whose folders nobody else may read
    try:
        yield working
        try:
            working.rename(folder)
        except OSError:
            if not (folder / "manifest.json").exists():  # If it exists, another process has made the same: take that.
                raise
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _make(files: Sequence[Path], preprocessing: Preprocessing, folder: Path, on_error: str) -> None:
    """Decode all files into `folder`."""
    with unfinished_folder(folder) as working:
        skipped: list[tuple[int, str]] = []
        digests = bytearray()
        with (
            (working / "images.u8").open("wb") as file,
            progress_bar("Preparing images", len(files), "images") as advance,
        ):
            for index, result in enumerate(decoded(files, preprocessing)):
                if isinstance(result, BrokenImageError):
                    if on_error == "stop":
                        raise result
                    skipped.append((index, str(result)))
                else:
                    file.write(result.data)
                    digests += hashlib.sha256(result.data).digest()[:DIGEST_BYTES]
                advance(1)
            file.flush()
            os.fsync(file.fileno())
        manifest: Manifest = {
            "shape": (len(files) - len(skipped), *preprocessing.shape), "skipped": skipped,
            "preprocessing": asdict(preprocessing), "digests": digests.hex(),
        }  # fmt: skip
        (working / "manifest.json").write_text(json.dumps(seal(manifest, CHECKSUM)), encoding="utf-8")


def decoded(files: Sequence[Path], preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8] | BrokenImageError]:
    """Yield the image of each file, or why it has none; threads decode a few ahead (Pillow releases Python's lock)."""

    def decode(path: Path) -> NDArray[np.uint8] | BrokenImageError:
        try:
            return np.ascontiguousarray(preprocessing(path))
        except BrokenImageError as error:
            return error

    with warnings.catch_warnings(), ThreadPoolExecutor(threads()) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata; we refuse what matters.
        waiting = [pool.submit(decode, path) for path in files[:WINDOW]]
        try:
            for index in range(len(files)):
                yield waiting[index % WINDOW].result()
                if index + WINDOW < len(files):
                    waiting[index % WINDOW] = pool.submit(decode, files[index + WINDOW])
        finally:
            pool.shutdown(cancel_futures=True)
