"""Image files, decoded and resized once into one file, an array of bytes.

`data_dir/prepared/<key>/` holds `images.u8`, the raw bytes of a uint8 array, and `manifest.json`, which says its shape,
which files were skipped, a digest of each image's pixels, and its own checksum. The key is a digest of the files (path,
size, modification time) and of the preprocessing. The folder gets its name when everything is in it, so it is whole or
not there; until then it is called after the process that fills it, and what a killed one left is cleared away by the
next. What was damaged since is made anew.
"""

import hashlib
import json
import logging
import math
import os
import platform
import secrets
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from vae_runner.datasets.io import containers, png
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.errors import UserError
from vae_runner.files.folders import readable
from vae_runner.runtime.console import progress_bar
from vae_runner.runtime.environment import threads

log = logging.getLogger(__name__)

FORMAT = 2  # of the folder, and of what the preprocessing does to a pixel: raise it when either changes
FILES = frozenset({"manifest.json", "images.u8"})  # in each folder
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]  # whatever the suffix says
MAX_PIXELS = 89_478_485  # of one image; where Pillow too begins to speak of a decompression bomb
MAX_SIDE = 65_535  # the most a JPEG can have; what resizing takes grows with the longer side, not with the pixels
SPARE_BYTES = 64 << 20  # left free on the disk
QUIET_SECONDS = 60.0  # after which the leftovers of a dead process are cleared away
DIGEST_BYTES = 8  # of an image's content: enough to tell that it is another one
WINDOW = 64  # images in work or waiting at a time, so that memory stays flat


class _InWork:
    """Images that are being decoded: as many at a time as have `MAX_PIXELS` together, however many cores there are."""

    def __init__(self) -> None:
        self._pixels = 0
        self._changed = threading.Condition()

    @contextmanager
    def pixels(self, count: int) -> Iterator[None]:
        """Wait until so many more pixels may be decoded; inside they are."""
        with self._changed:
            self._changed.wait_for(lambda: self._pixels + count <= MAX_PIXELS or self._pixels == 0)
            self._pixels += count
        try:
            yield
        finally:
            with self._changed:
                self._pixels -= count
                self._changed.notify_all()


_IN_WORK = _InWork()


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image: put on a background, brought to a size and a number of channels."""

    height: int
    width: int
    channels: int
    background: tuple[int, int, int]
    crop: bool

    @classmethod
    def parse(
        cls, image_size: int | Sequence[int], channels: int, background: str | Sequence[int], crop: bool
    ) -> "Preprocessing":
        """From the values of the configuration.

        Raises:
            UserError: a size below 8 or above 4096, or a background that is no colour.
        """
        size = [image_size, image_size] if isinstance(image_size, int) else image_size
        if (
            isinstance(size, str)
            or not isinstance(size, Sequence)
            or len(size) != 2
            or not all(type(side) is int and 8 <= side <= 4096 for side in size)
        ):
            raise UserError(
                f"dataset.image_size={image_size}: must be an integer or [height, width], each from 8 to 4096 pixels"
            )
        try:
            colour = ImageColor.getrgb(background) if isinstance(background, str) else tuple(background)
        except (ValueError, TypeError):
            colour = ()
        if len(colour) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in colour):
            raise UserError(
                f"dataset.background={background}: must be a colour: a name, '#rrggbb', or [r, g, b] from 0 to 255"
            )
        return cls(size[0], size[1], channels, colour, crop)

    def __call__(self, path: Path) -> np.ndarray[Any, Any]:
        """Return the image in a file, uint8 `[height, width, channels]`; of an animation, the first frame.

        Raises:
            UserError: the file cannot be read, is no image, is damaged, has more than `MAX_PIXELS` pixels or `MAX_SIDE`
                along a side, or is `containers.excess`ive.
        """
        try:
            if too_much := containers.excess(path):
                raise UserError(f"{path} {too_much}: replace it, or pass over it with dataset.on_error=skip")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise UserError(
                        f"{path} has {image.width}×{image.height} pixels, more than {MAX_PIXELS:,} or {MAX_SIDE:,} "
                        "along a side: make it smaller, or pass over it with dataset.on_error=skip"
                    )
                full = image.width * image.height
                image.draft("RGB", (2 * self.width, 2 * self.height))  # a JPEG is decoded at a fraction of its size
                pixels = full if image.info.get("progressive") else image.width * image.height
                with _IN_WORK.pixels(pixels):
                    converted = self._convert(png.decode(path, image) or png.in_eight_bits(path, image))
                    return np.asarray(converted).reshape(self.height, self.width, self.channels)
        except UserError:
            raise
        except Image.DecompressionBombError as error:
            raise UserError(f"{path} is too large ({error}): make it smaller, or use dataset.on_error=skip") from error
        except MemoryError as error:
            raise UserError(
                f"{path} takes more memory than there is: make it smaller, or use dataset.on_error=skip"
            ) from error
        except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # it was not looked into
                raise UserError(
                    f"{path} cannot be read ({error.strerror}): mend that, or pass over it with dataset.on_error=skip"
                ) from error
            what = "is empty" if path.exists() and path.stat().st_size == 0 else f"cannot be read as an image ({error})"
            raise UserError(f"{path} {what}: replace it, or pass over it with dataset.on_error=skip") from error

    def _convert(self, image: Image.Image) -> Image.Image:
        image.getexif()  # remembers the orientation; without the rest, which may be damaged, Pillow writes none anew
        for name in ("exif", "Raw profile type exif"):
            image.info.pop(name, None)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = _in_mode(image, "RGBA")
            return self._resize(self._on_background(image)) if self.crop else self._resized_on_background(image)
        return self._resize(image)

    def _resize(self, image: Image.Image) -> Image.Image:
        image, size = self._in_channels(image), (self.width, self.height)
        if self.crop:
            return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        return image.resize(size, Image.Resampling.BILINEAR)

    def _in_channels(self, image: Image.Image) -> Image.Image:
        return _in_mode(image, "L" if self.channels == 1 else "RGB")

    def _on_background(self, image: Image.Image) -> Image.Image:
        canvas = Image.new("RGB", image.size, self.background)
        canvas.paste(image, mask=image)
        return canvas

    def _resized_on_background(self, image: Image.Image) -> Image.Image:
        """Return what `_resize` makes of `_on_background`; the margins, of which nothing is seen, are not worked on."""
        canvas = self._in_channels(Image.new("RGB", (self.width, self.height), self.background))
        seen = image.getbbox()
        if seen is None:
            return canvas
        left, right, x0, x1 = _shown_in(seen[0], seen[2], image.width, self.width)
        top, bottom, y0, y1 = _shown_in(seen[1], seen[3], image.height, self.height)
        if 2 * (x1 - x0) * (y1 - y0) > image.width * image.height:  # a copy would take more memory than it saves time
            x0, y0, x1, y1 = 0, 0, *image.size
        x_scale, y_scale = image.width / self.width, image.height / self.height
        box = (left * x_scale - x0, top * y_scale - y0, right * x_scale - x0, bottom * y_scale - y0)
        part = image if (x1 - x0, y1 - y0) == image.size else image.crop((x0, y0, x1, y1))
        part = self._in_channels(self._on_background(part))
        canvas.paste(part.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box), (left, top))
        return canvas


def _shown_in(start: int, end: int, size: int, wanted: int) -> tuple[int, int, int, int]:
    """When `size` pixels are resized to `wanted`: those in which `start` to `end` show, and what those are made of.

    Both as the first and the last + 1, and rather too many than too few.
    """
    scale = size / wanted
    reach = max(scale, 1.0) + 1.0  # to either side; of the filter, and one pixel for rounding
    step = wanted // math.gcd(size, wanted)
    step //= step & -step  # Pillow is told in float32 where to begin: at multiples of this that is exact
    first = max(0, math.floor((start - reach) / scale / step) * step)
    last = min(wanted, math.ceil((end + reach) / scale / step) * step)
    return first, last, max(0, math.floor(first * scale - reach)), min(size, math.ceil(last * scale + reach))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # Pillow would copy it, which takes time


def prepare(
    files: Sequence[Path], preprocessing: Preprocessing, data_dir: Path, on_error: str
) -> tuple[StoredImages, np.ndarray[Any, Any]]:
    """Return the prepared images of `files`, made now or opened from an earlier run.

    Returns:
        images: uint8 `[n, height, width, channels]`, read when asked for.
        kept: int64 `[n]`, the index in `files` of each image; all of them but for those skipped.

    Raises:
        UserError: an image is broken and `on_error` is "stop"; the disk has no room, or `data_dir` cannot be written.
    """
    folder = data_dir / "prepared" / _key(files, preprocessing)
    manifest = _read_manifest(folder, len(files), preprocessing)
    if manifest is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _clear_away(folder)
            _check_room(len(files), preprocessing, folder)
            _make(files, preprocessing, folder, on_error)
        except OSError as error:
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        manifest = _read_manifest(folder, len(files), preprocessing)
        if manifest is None:
            raise UserError(f"{folder} was changed while it was made: start again, or give another data_dir")
    skipped = manifest["skipped"]
    if skipped and on_error == "stop":
        raise UserError(f"{skipped[0][1]}")
    if skipped:
        log.info("Skipped %d of %d images; the first: %s", len(skipped), len(files), skipped[0][1])
    kept = np.setdiff1d(np.arange(len(files)), [index for index, _ in skipped])
    if len(kept) == 0:
        raise UserError(f"none of the {len(files)} images can be used; the first: {skipped[0][1]}")
    digests = np.frombuffer(bytes.fromhex(manifest["digests"]), np.uint8).reshape(-1, DIGEST_BYTES)
    images = StoredImages(folder / "images.u8", tuple(manifest["shape"]), digests)
    log.info("Images: %d prepared as %s in %s", len(images), _shape_text(preprocessing), folder)
    return images, kept


def _read_manifest(folder: Path, count: int, preprocessing: Preprocessing) -> dict[str, Any] | None:
    """Return what is in a folder prepared from so many files, or None where there is none that can be used."""
    file, images = folder / "manifest.json", folder / "images.u8"
    try:
        with readable(folder):
            if not folder.exists():
                return None
            if file.is_file() and images.is_file():  # neither a pipe nor a device
                manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                sides = preprocessing.height, preprocessing.width, preprocessing.channels
                shape = (count - len(manifest["skipped"]), *sides)
                whole = manifest["sha256"] == _digest(manifest) and tuple(manifest["shape"]) == shape
                whole = whole and len(bytes.fromhex(manifest["digests"])) == DIGEST_BYTES * shape[0]
                if whole and images.stat().st_size == math.prod(shape):
                    return manifest
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    log.warning("What was prepared in %s is damaged: preparing it again", folder)
    return None


def _digest(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _clear_away(folder: Path) -> None:
    """Remove `folder`, which is damaged, if it is there, and what processes that are no more left unfinished."""
    shutil.rmtree(folder, ignore_errors=True)
    for leftover in folder.parent.glob(f"{_unfinished_prefix()}*"):
        process = leftover.name.removeprefix(_unfinished_prefix()).partition("-")[0]
        if not process.isdecimal() or _is_alive(int(process)):
            continue
        with suppress(FileNotFoundError):  # another process clears it away at this moment
            quiet = time.time() - max(path.stat().st_mtime for path in [leftover, *leftover.iterdir()])
            if quiet > QUIET_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _unfinished_prefix() -> str:
    return f"unfinished-{platform.node()}-"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _key(files: Sequence[Path], preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, asdict(preprocessing)]).encode())
    for path in files:
        try:
            status = path.stat()
            seen = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:  # gone, or a dangling link: decoding will say so
            seen = "unreadable"
        digest.update(f"{path.absolute()}\0{seen}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _shape_text(preprocessing: Preprocessing) -> str:
    return f"{preprocessing.height}×{preprocessing.width}×{preprocessing.channels}"


def _check_room(count: int, preprocessing: Preprocessing, folder: Path) -> None:
    size = count * preprocessing.height * preprocessing.width * preprocessing.channels
    free = shutil.disk_usage(folder.parent).free
    log.info("Preparing %d images as %s in %s: %.1f MB", count, _shape_text(preprocessing), folder, size / 1e6)
    if size + SPARE_BYTES > free:
        raise UserError(
            f"preparing {count} images takes {size / 1e6:,.0f} MB, and {folder.parent} has {free / 1e6:,.0f} MB free: "
            "make room, give another data_dir, or take fewer with dataset.limit"
        )


def _make(files: Sequence[Path], preprocessing: Preprocessing, folder: Path, on_error: str) -> None:
    """Decode all files into a new folder, and give it its name."""
    working = folder.parent / f"{_unfinished_prefix()}{os.getpid()}-{secrets.token_hex(4)}"
    working.mkdir()  # not mkdtemp, whose folders nobody else may read
    try:
        skipped: list[tuple[int, str]] = []
        digests = bytearray()
        count = 0
        with (
            (working / "images.u8").open("wb") as file,
            progress_bar("Preparing images", len(files), "images") as advance,
        ):
            for index, result in enumerate(_decoded(files, preprocessing)):
                if isinstance(result, UserError):
                    if on_error == "stop":
                        raise result
                    skipped.append((index, str(result)))
                else:
                    file.write(result.data)
                    digests += hashlib.sha256(result.data).digest()[:DIGEST_BYTES]
                    count += 1
                advance(1)
            file.flush()
            os.fsync(file.fileno())
        shape = (count, preprocessing.height, preprocessing.width, preprocessing.channels)
        manifest: dict[str, Any] = {
            "shape": shape, "skipped": skipped, "preprocessing": asdict(preprocessing), "digests": digests.hex()
        }  # fmt: skip
        manifest["sha256"] = _digest(manifest)
        (working / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        try:
            working.rename(folder)
        except OSError:
            if not (folder / "manifest.json").exists():  # another process made the same one meanwhile: take that
                raise
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _decoded(files: Sequence[Path], preprocessing: Preprocessing) -> Iterator[np.ndarray[Any, Any] | UserError]:
    """Yield the images in order, decoded by all cores (Pillow lets go of Python's lock), a few at a time."""

    def decode(path: Path) -> np.ndarray[Any, Any] | UserError:
        try:
            return np.ascontiguousarray(preprocessing(path))
        except UserError as error:
            return error

    with warnings.catch_warnings(), ThreadPoolExecutor(threads()) as pool:
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns of large images and odd metadata; what matters is refused by name
        waiting = [pool.submit(decode, path) for path in files[:WINDOW]]
        try:
            for index in range(len(files)):
                yield waiting[index % WINDOW].result()
                if index + WINDOW < len(files):
                    waiting[index % WINDOW] = pool.submit(decode, files[index + WINDOW])
        finally:
            pool.shutdown(cancel_futures=True)
