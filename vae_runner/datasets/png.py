"""Plain PNGs, decoded by Wuffs where it is installed (`pip install 'vae-runner[png]'`), in half of Pillow's time."""

import struct
import zlib
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
