"""PNGs that Pillow decodes slowly, or with wrong pixels.

Wuffs decodes plain ones where it is installed (`pip install 'vae-runner[png]'`), in half of Pillow's time. Of samples
with another depth than 8 bits, Pillow truncates 16 bits, and does not scale the transparent colour.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_runner.files.pictures import picture_of

try:
    import pywuffs
    from pywuffs.aux import ImageDecoder, ImageDecoderConfig
except ImportError:
    pywuffs = None

# With these, Pillow decodes: the orientation, in EXIF or XMP or a text of either, animations, transparent colours.
PILLOWS = (b"eXIf", b"exif", b"xmp", b"acTL", b"tRNS")

# By Pillow's "raw mode" of 16-bit samples, of which it returns the high bytes: the raw mode that returns the low bytes
# instead, and in which channels they are then.
LOW_BYTES = {
    "RGB;16B": ("RGB;16L", [0, 1, 2]),
    "RGBA;16B": ("RGBA;16L", [0, 1, 2, 3]),
    "LA;16B": ("RGBA", [1, 1, 1, 3]),
}
SHALLOW = {"L;2": 2, "L;4": 4}  # the bits of a sample
STRIP = 64  # rows that are rounded at a time, in more memory than the image has


def decode(path: Path, image: Image.Image) -> Image.Image | None:
    """Return the pixels of a PNG that Pillow has opened but not loaded, or None where Pillow must decode it.

    It must where there is more than 8-bit pixels, and where the file is damaged: its refusal is what users see.
    """
    if pywuffs is None or image.format != "PNG" or [tile.args for tile in image.tile] != [image.mode]:  # type: ignore[attr-defined]
        return None
    formats = pywuffs.PixelFormat
    wanted = {"L": formats.Y, "RGB": formats.RGB, "RGBA": formats.RGBA_NONPREMUL}.get(image.mode)
    content = path.read_bytes()
    if wanted is None or not _is_plain(content):
        return None
    config = ImageDecoderConfig()
    config.enabled_decoders = [pywuffs.ImageDecoderType.PNG]
    config.pixel_format = wanted
    result = ImageDecoder(config).decode(content)
    if result.error_message or result.pixbuf.shape[:2] != (image.height, image.width):
        return None
    return picture_of(result.pixbuf)


def _is_plain(png: bytes) -> bool:
    """Return whether a PNG is undamaged and has nothing that needs Pillow.

    The CRC-32 of the compressed pixels takes no time; Wuffs would also check the Adler-32 of all pixels, which does.
    """
    other, at = b"", 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunk, end = png[at + 4 : at + 8 + length], at + 12 + length
        if not chunk.startswith(b"IDAT"):
            other += chunk
        elif zlib.crc32(chunk).to_bytes(4) != png[end - 4 : end]:
            return False
        at = end
    return not any(mark in other for mark in PILLOWS)


def in_eight_bits(path: Path, image: Image.Image) -> Image.Image:
    """Load `image`, which Pillow has opened, and return it with samples rounded to 8 bits.

    The transparent colour, given in the PNG's own depth, is scaled; one of 16 bits becomes an alpha channel, because
    other colours may round to the same 8 bits.
    """
    raw_mode = image.tile[0].args if image.format == "PNG" and image.tile else None  # type: ignore[attr-defined]
    image.load()
    if raw_mode in SHALLOW and "transparency" in image.info:
        most = (1 << SHALLOW[raw_mode]) - 1
        image.info["transparency"] = (image.info["transparency"] & most) * (255 // most)
    if raw_mode == "I;16B":
        return _rounded(image, lambda box: np.asarray(image.crop(box))[..., np.newaxis])
    if raw_mode in LOW_BYTES:
        low_mode, channels = LOW_BYTES[raw_mode]
        with Image.open(path, formats=["PNG"]) as low:
            low.tile = [tile._replace(args=low_mode) for tile in low.tile]
            low.load()
        return _rounded(
            image, lambda box: np.asarray(image.crop(box)) * np.uint16(256) + np.asarray(low.crop(box))[..., channels]
        )
    return image


def _rounded(image: Image.Image, samples: Callable[[tuple[int, int, int, int]], NDArray[np.uint16]]) -> Image.Image:
    """Return `image` in 8 bits; `samples` returns its 16-bit samples in a box, `[height, width, channels]`."""
    transparent = image.info.pop("transparency", None)
    mode = "L" if image.mode == "I;16" else image.mode
    rounded = Image.new(mode if transparent is None else {"L": "LA", "RGB": "RGBA"}[mode], image.size)
    for top in range(0, image.height, STRIP):
        box = (0, top, image.width, min(top + STRIP, image.height))
        exact = samples(box)
        pixels = (exact * np.uint32(255) + 32767) // 65535
        if transparent is not None:
            pixels = np.concatenate([pixels, (exact != transparent).any(-1, keepdims=True) * np.uint32(255)], -1)
        pixels = pixels.astype(np.uint8)
        rounded.paste(picture_of(pixels), box)
    rounded.info = image.info
    return rounded
