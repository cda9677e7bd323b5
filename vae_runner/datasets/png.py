"""Plain PNGs, decoded by Wuffs where it is installed (`pip install 'vae-runner[png]'`), in half of Pillow's time."""

import struct
from pathlib import Path

from PIL import Image

try:
    import pywuffs
    from pywuffs.aux import ImageDecoder, ImageDecoderConfig
except ImportError:
    pywuffs = None

# What only Pillow is asked about: the orientation, in EXIF or XMP or a text of either, animations, transparent colours.
PILLOWS = (b"eXIf", b"exif", b"xmp", b"acTL", b"tRNS")


def decode(path: Path, image: Image.Image) -> Image.Image | None:
    """What Pillow would decode, given that it has opened but not loaded `path`; or None, and then it has to.

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
    other, at = b"", 8
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name != b"IDAT":
            other += png[at + 4 : at + 8 + length]
        at += 12 + length
    return not any(mark in other for mark in PILLOWS)
