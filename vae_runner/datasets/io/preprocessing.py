"""What is done to each image file: decoding within limits, a background, a size, a number of channels."""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from vae_runner.datasets.io import containers, png
from vae_runner.errors import UserError, counted

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]  # whatever the suffix says
MAX_PIXELS = 89_478_485  # of one image; where Pillow too begins to warn of a decompression bomb
MAX_SIDE = 65_535  # the most a JPEG can have; the time for resizing grows with the longer side, not with the pixels


class BrokenImageError(UserError):
    """A file has no image that can be used; `problem` names it, and says why, without what to do about that."""

    def __init__(self, path: Path, problem: str, advice: str) -> None:
        self.problem = str(UserError(f"{path} {problem}"))
        super().__init__(f"{path} {problem}: {advice}, or pass over it with dataset.on_error=skip")


def none_usable(count: int, problem: str) -> UserError:
    """Return the refusal of so many images, of which none can be used; `problem` says why the first cannot."""
    if count == 1:
        return UserError(f"the only image cannot be used: {problem}")
    return UserError(f"none of {counted(count, 'image')} can be used; the first: {problem}")


class _PixelBudget:
    """Bounds the pixels that all threads decode at the same time: `MAX_PIXELS` together, or one image."""

    def __init__(self) -> None:
        self._in_use = 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Wait until so many more pixels may be decoded, and count them while inside."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_use + pixels <= MAX_PIXELS or self._in_use == 0)
            self._in_use += pixels
        try:
            yield
        finally:
            with self._changed:
                self._in_use -= pixels
                self._changed.notify_all()


_BUDGET = _PixelBudget()


@dataclass(frozen=True)
class Preprocessing:
    """A function from an image file to its pixels, on a background and in a size and a number of channels."""

    height: int
    width: int
    channels: int
    background: tuple[int, int, int]
    crop: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the height, width and channels of what it makes."""
        return self.height, self.width, self.channels

    @classmethod
    def parse(cls, image_size: int | Sequence[int], channels: int, background: str | Sequence[int], crop: bool) -> Self:
        """Return the preprocessing that these values describe; refuse sizes below 8 or above 4096, and no colours."""
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

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Return the image in a file, uint8 `[height, width, channels]`; of an animation, the first frame.

        Raises:
            BrokenImageError: the file cannot be read, is no image, is damaged, has more than `MAX_PIXELS` pixels or
                `MAX_SIDE` along a side, or is refused by `containers.excess`.
        """
        try:
            if excess := containers.excess(path):
                raise BrokenImageError(path, excess, "replace it")
            return self._decode(path)
        except Image.DecompressionBombError as error:
            raise BrokenImageError(path, f"is too large ({error})", "make it smaller") from error
        except MemoryError as error:
            raise BrokenImageError(path, "takes more memory than there is", "make it smaller") from error
        except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # It is about the file, not its content.
                raise BrokenImageError(path, f"cannot be read ({error.strerror})", "mend that") from error
            is_empty = path.exists() and path.stat().st_size == 0
            problem = "is empty" if is_empty else f"cannot be read as an image ({error})"
            raise BrokenImageError(path, problem, "replace it") from error

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        with Image.open(path, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
                problem = (
                    f"has {image.width}×{image.height} pixels, more than {MAX_PIXELS:,} or {MAX_SIDE:,} along a side"
                )
                raise BrokenImageError(path, problem, "make it smaller")
            image.draft("RGB", (2 * self.width, 2 * self.height))  # A JPEG is decoded at a fraction of its size,
            if not image.info.get("progressive"):  # and takes less memory then, unless it is progressive.
                pixels = image.width * image.height
            with _BUDGET.reserve(pixels):
                converted = self._convert(png.decode(path, image) or png.in_eight_bits(path, image))
                return np.asarray(converted).reshape(self.shape)

    def _convert(self, image: Image.Image) -> Image.Image:
        image.getexif()  # It caches the orientation. The rest, which may be damaged, is not to be written anew.
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
        """Return what `_resize` makes of `_on_background`, without the work on fully transparent margins."""
        canvas = self._in_channels(Image.new("RGB", (self.width, self.height), self.background))
        seen = image.getbbox()
        if seen is None:
            return canvas
        left, right, x0, x1 = _span(seen[0], seen[2], image.width, self.width)
        top, bottom, y0, y1 = _span(seen[1], seen[3], image.height, self.height)
        if 2 * (x1 - x0) * (y1 - y0) > image.width * image.height:  # A copy would cost more memory than it saves time.
            x0, y0, x1, y1 = 0, 0, *image.size
        x_scale, y_scale = image.width / self.width, image.height / self.height
        box = (left * x_scale - x0, top * y_scale - y0, right * x_scale - x0, bottom * y_scale - y0)
        part = image if (x1 - x0, y1 - y0) == image.size else image.crop((x0, y0, x1, y1))
        part = self._in_channels(self._on_background(part))
        canvas.paste(part.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box), (left, top))
        return canvas


def _span(start: int, end: int, size: int, wanted: int) -> tuple[int, int, int, int]:
    """Return which pixels the pixels `start` to `end` reach when `size` pixels are resized to `wanted`.

    Returns:
        the first and last + 1 of the resized pixels, then those of the pixels that these are made of: rather too many.
    """
    scale = size / wanted
    reach = max(scale, 1.0) + 1.0  # of the filter to either side, and one pixel for rounding
    step = wanted // math.gcd(size, wanted)
    step //= step & -step  # Pillow takes the first pixel in float32, in which multiples of this are exact.
    first = max(0, math.floor((start - reach) / scale / step) * step)
    last = min(wanted, math.ceil((end + reach) / scale / step) * step)
    return first, last, max(0, math.floor(first * scale - reach)), min(size, math.ceil(last * scale + reach))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # `convert` would copy it even if it has the mode.
