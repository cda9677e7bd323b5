"""Images of a published array, written once as raw bytes that can be read one by one.

The folder is like those of prepared image files: `data_dir/prepared/<key>/` with `images.u8` and `manifest.json`.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.io.prepared import CHECKSUM, check_room, delete_leftovers, key_of, unfinished_folder
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.errors import UserError
from vae_runner.files.sealed import seal, unseal
from vae_runner.files.untrusted import DamagedError, json_object, readable
from vae_runner.runtime.console import progress_bar

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Images as a file has them, uint8 `[n, height, width, channels]`, and how many values each of its factors has."""

    shape: tuple[int, int, int, int]
    sizes: Mapping[str, int]  # by factor
    blocks: Iterator[NDArray[np.uint8]]  # together the images


def prepare_array(
    name: str, files: Sequence[Path], read: Callable[[], AbstractContextManager[Source]], data_dir: str
) -> tuple[StoredImages, dict[str, int]]:
    """Return the images that `read` finds in `files`, and the sizes of their factors, prepared now or earlier.

    Raises:
        UserError: the files are damaged, the disk has no room, or `data_dir` cannot be written.
    """
    folder = Path(data_dir).expanduser() / "prepared" / key_of(files, name)
    found = _prepared(folder)
    if found is None:
        try:
            with read() as source:
                _make(source, folder)
        except DamagedError as error:
            where = ", ".join(map(str, files))
            raise UserError(f"{where} cannot be read ({error}): delete it and get it again") from error
        except OSError as error:
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        found = _prepared(folder)
        if found is None:
            raise UserError(f"{folder} was changed while it was made: start again, or give another data_dir")
    log.info("Images: %d prepared from %s in %s", len(found[0]), name, folder)
    return found


def _prepared(folder: Path) -> tuple[StoredImages, dict[str, int]] | None:
    """Return what was prepared in `folder`, or None where there is nothing that can be used."""
    file, images = folder / "manifest.json", folder / "images.u8"
    try:
        with readable(folder):
            if not folder.exists():
                return None
            if file.is_file() and images.is_file():
                manifest = unseal(json_object(file.read_bytes()), CHECKSUM)
                shape, sizes = tuple(manifest["shape"]), dict(manifest["sizes"])
                if images.stat().st_size == math.prod(shape) and shape[0] == math.prod(sizes.values()):
                    return StoredImages(images, shape), sizes
    except (DamagedError, OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    log.warning("What was prepared in %s is damaged: preparing it again", folder)
    return None


def _make(source: Source, folder: Path) -> None:
    if source.shape[0] != math.prod(source.sizes.values()):
        factors = ", ".join(f"{name} {size}" for name, size in source.sizes.items())
        raise DamagedError(f"it has {source.shape[0]} images, and not one of each combination of {factors}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    delete_leftovers(folder)
    check_room(source.shape[0], source.shape[1:], folder)
    with unfinished_folder(folder) as working:
        with (
            (working / "images.u8").open("wb") as file,
            progress_bar("Preparing images", source.shape[0], "images") as advance,
        ):
            for block in source.blocks:
                file.write(np.ascontiguousarray(block).data)
                advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        manifest = {"shape": source.shape, "sizes": dict(source.sizes)}
        (working / "manifest.json").write_text(json.dumps(seal(manifest, CHECKSUM)), encoding="utf-8")
