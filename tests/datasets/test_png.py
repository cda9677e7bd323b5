import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.datasets.test_preprocessing import BROKEN, MODES, TRANSPARENT, a_patch, preprocessing, save
from vae_runner.datasets.io import png
from vae_runner.errors import UserError

pytest.importorskip("pywuffs", reason="Wuffs is not installed: pip install 'vae-runner[png]'")
pytestmark = pytest.mark.filterwarnings("ignore:.*decompression bomb")

Pixels = np.ndarray[Any, Any]
PLAIN = ["RGBA", "RGB", "L"]


def by_wuffs(path: Path) -> Pixels | None:
    with Image.open(path) as image:
        decoded = png.decode(path, image)
    return None if decoded is None else np.asarray(decoded)


def by_pillow(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(path: Path, name: bytes, content: bytes, *, at_the_end: bool) -> Path:
    file = path.read_bytes()
    place = len(file) - 12 if at_the_end else 33  # before IEND, or after IHDR
    path.write_bytes(file[:place] + chunk(name, content) + file[place:])
    return path


def picture(path: Path, mode: str = "RGBA", **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8)
    return save(path, Image.fromarray(pixels).convert(mode), **options)


@pytest.mark.parametrize("mode", PLAIN)
def test_a_plain_png_has_the_pixels_that_pillow_sees(tmp_path: Path, mode: str) -> None:
    path = MODES[mode](tmp_path / "x.png", a_patch(0, 10, 5, 60, 40))
    decoded = by_wuffs(path)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, by_pillow(path))


def test_an_interlaced_png_has_its_pixels(tmp_path: Path) -> None:
    """Pillow writes none: 3×3 pixels in the seven passes, each row after its filter byte."""
    passes = [[[1]], [], [], [[2]], [[3, 4]], [[5], [6]], [[7, 8, 9]]]
    rows = b"".join(bytes([0, *row]) for rows in passes for row in rows)
    header = chunk(b"IHDR", struct.pack(">2I5B", 3, 3, 8, 0, 0, 0, 1))
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    decoded = by_wuffs(path)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, by_pillow(path))


def test_texts_are_no_hindrance(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("Software", "a drawing program")
    assert by_wuffs(picture(tmp_path / "x.png", pnginfo=texts)) is not None


@pytest.mark.parametrize("kind", sorted({*MODES, *TRANSPARENT} - {*PLAIN, "RGBA.png"}))
def test_what_is_not_plain_is_left_to_pillow(tmp_path: Path, kind: str) -> None:
    make = MODES.get(kind)
    path = make(tmp_path / "x.png", a_patch(0, 10, 5, 60, 40)) if make else TRANSPARENT[kind](tmp_path / kind)
    assert by_wuffs(path) is None


def verdict(path: Path) -> bytes | str:
    try:
        return preprocessing()(path).tobytes()
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("kind", BROKEN)
def test_of_a_broken_png_pillow_says_what_is_wrong(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(BROKEN[kind])
    said = verdict(path)
    monkeypatch.setattr(png, "pywuffs", None)
    assert said == verdict(path)


@pytest.mark.parametrize("seed", range(100))
def test_wuffs_passes_no_damage_that_pillow_sees(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(seed)
    path = picture(tmp_path / "x.png")
    content = bytearray(path.read_bytes())
    if seed % 4 == 0:
        content = content[: generator.randrange(len(content))]
    else:
        content[generator.randrange(60 if seed % 4 == 1 else len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    said = verdict(path)
    monkeypatch.setattr(png, "pywuffs", None)
    assert said == verdict(path)


ROTATED = bytes([0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0])
ORIENTATIONS = {
    "eXIf": (b"eXIf", ROTATED),
    "EXIF as a text": (b"tEXt", b"Raw profile type exif\0\nexif\n26\n" + (b"Exif\0\0" + ROTATED).hex().encode()),
    "XMP": (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta><a tiff:Orientation="6"/></x:xmpmeta>'),
}


@pytest.mark.parametrize("kind", ORIENTATIONS)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_orientation_is_seen_wherever_it_is(tmp_path: Path, kind: str, at_the_end: bool) -> None:
    path = with_chunk(picture(tmp_path / "x.png", "RGB"), *ORIENTATIONS[kind], at_the_end=at_the_end)
    np.testing.assert_array_equal(preprocessing([23, 37])(path), np.rot90(by_pillow(path), -1))


@pytest.mark.parametrize("mode", PLAIN)
def test_without_wuffs_it_is_the_same_picture(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "x.png", mode)
    image = preprocessing(16)(path)
    monkeypatch.setattr(png, "pywuffs", None)
    assert by_wuffs(path) is None
    np.testing.assert_array_equal(image, preprocessing(16)(path))
