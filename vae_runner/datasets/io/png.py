"""What is done for PNGs before Pillow sees their pixels, or in its place.

Plain ones are decoded by Wuffs where it is installed (`pip install 'vae-runner[png]'`), in half of Pillow's time. Of
those whose samples have another depth than 8 bits, Pillow cuts the samples and does not scale the transparent colour.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    import pywuffs
    from pywuffs.aux import ImageDecoder, ImageDecoderConfig
except ImportError:
    pywuffs = None

# What only Pillow is asked about: the orientation, in EXIF or XMP or a text of either, animations, transparent colours.
PILLOWS = (b"eXIf", b"exif", b"xmp", b"acTL", b"tRNS")

# Pillow names the samples in a PNG by "raw modes". Of 16 bits it gives the high bytes; how to read the low bytes in
# their place, and in which channels they are then.
LOW_BYTES = {
    "RGB;16B": ("RGB;16L", [0, 1, 2]),
    "RGBA;16B": ("RGBA;16L", [0, 1, 2, 3]),
    "LA;16B": ("RGBA", [1, 1, 1, 3]),
}
SHALLOW = {"L;2": 2, "L;4": 4}  # the bits of a sample
STRIP = 64  # rows that are rounded at a time, because that takes more memory than the image


def decode(path: Path, image: Image.Image) -> Image.Image | None:
    """Return what Pillow would decode, given that it has opened but not loaded `path`; or None, and then it has to.

    It has to where a PNG is more than 8-bit pixels, and where one is damaged: its verdict counts, and its words.
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
    return Image.fromarray(result.pixbuf[..., 0] if image.mode == "L" else result.pixbuf)


def _is_plain(png: bytes) -> bool:
    """Whether it has nothing that only Pillow knows, and pixels as they were written.

    Wuffs looks at no checksum unless told, and then at the Adler-32 of all pixels too, which takes time. The CRC-32
    of what they were compressed to tells damage as well, and takes none.
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
    """Load `image`, which Pillow has opened: its samples rounded to 8 bits, its transparent colour in their scale.

    A PNG gives its transparent colour in its own depth. One of 16 bits becomes an alpha channel, because other colours
    may round to the same 8 bits.
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


def _rounded(image: Image.Image, samples: Callable[[tuple[int, int, int, int]], np.ndarray[Any, Any]]) -> Image.Image:
    """`image` in 8 bits, given its 16-bit `samples` in a box, `[height, width, channels]`."""
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
        rounded.paste(Image.fromarray(pixels[..., 0] if rounded.mode == "L" else pixels), box)
    rounded.info = image.info
    return rounded
