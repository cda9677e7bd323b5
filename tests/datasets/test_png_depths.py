"""PNGs of every depth and colour type, written byte by byte, against the pixels that the specification gives them."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.datasets.conftest import refused
from tests.datasets.test_preprocessing import preprocessing
from vae_runner.datasets.io import png

Pixels = np.ndarray[Any, Any]
HEIGHT, WIDTH = 9, 70
NAVY = (16, 32, 48)
CHANNELS = {"grey": 1, "colour": 3, "grey with alpha": 2, "colour with alpha": 4}
COLOUR_TYPES = {"grey": 0, "colour": 2, "grey with alpha": 4, "colour with alpha": 6}
DEPTHS = {"grey": [1, 2, 4, 8, 16], "colour": [8, 16], "grey with alpha": [8, 16], "colour with alpha": [8, 16]}
SHALLOW = (2, 4)
KINDS = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]


@pytest.fixture(params=["with Wuffs", "without"], autouse=True)
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(png, "pywuffs", None)
    elif png.pywuffs is None:
        pytest.skip("Wuffs is not installed: pip install 'vae-runner[png]'")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(path: Path, samples: Pixels, kind: str, depth: int, *chunks: bytes) -> Path:
    """A PNG of integers `[height, width, channels]`, the highest bit of each first, each row from a new byte on."""
    bits = samples.reshape(len(samples), -1, 1) >> np.arange(depth)[::-1] & 1
    rows = np.packbits(bits.reshape(len(samples), -1), axis=1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">2I5B", samples.shape[1], samples.shape[0], depth, COLOUR_TYPES[kind], 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + end)
    return path


def noise(kind: str, depth: int) -> Pixels:
    """Samples of few values, so that pixels have colours in common, or nearly."""
    generator = np.random.default_rng(depth)
    most = (1 << depth) - 1
    values = np.unique([0, 1, most // 3, most // 3 + 1, most - 1, most, *generator.integers(0, most + 1, 8)])
    return generator.choice(values, (HEIGHT, WIDTH, CHANNELS[kind]))


def in_eight(samples: Pixels, depth: int) -> Pixels:
    """Samples as numbers from 0 to 255, rounded."""
    return np.floor(samples * 255 / ((1 << depth) - 1) + 0.5).astype(int)


def shown(path: Path, samples: Pixels, channels: int = 3) -> Pixels:
    return preprocessing(list(samples.shape[:2]), channels, background=NAVY)(path).astype(int)


@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_samples_are_rounded_to_eight_bits(tmp_path: Path, kind: str, depth: int) -> None:
    samples = noise(kind, depth)
    path = write_png(tmp_path / "x.png", samples, kind, depth)
    pixels = in_eight(samples, depth)
    if "alpha" in kind:
        seen = Image.fromarray(pixels.astype(np.uint8)).convert("RGBA")
        canvas = Image.new("RGBA", seen.size, (*NAVY, 255))
        pixels = np.asarray(Image.alpha_composite(canvas, seen).convert("RGB"))
    np.testing.assert_array_equal(shown(path, samples), np.broadcast_to(pixels, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize(("kind", "depth"), [(kind, depth) for kind, depth in KINDS if "alpha" not in kind])
@pytest.mark.parametrize("flags", [0, 1], ids=["as it should be", "with bits above the depth"])
def test_the_transparent_colour_is_one_of_the_depth_of_the_file(
    tmp_path: Path, kind: str, depth: int, flags: int
) -> None:
    samples = noise(kind, depth)
    for transparent in (samples[0, 0], samples[4, 30], samples[-1, -1]):
        above = (flags << depth) & 0xFF if depth in SHALLOW else 0  # of which a reader is to take the lower bits
        content = struct.pack(f">{CHANNELS[kind]}H", *(transparent | above))
        path = write_png(tmp_path / "x.png", samples, kind, depth, chunk(b"tRNS", content))
        there = (samples == transparent).all(-1, keepdims=True)
        assert 0 < there.sum() < there.size
        expected = np.where(there, NAVY, in_eight(samples, depth))
        np.testing.assert_array_equal(shown(path, samples), expected)


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_colour_that_only_rounds_to_the_transparent_one_is_seen(tmp_path: Path, kind: str) -> None:
    samples = np.full((HEIGHT, WIDTH, CHANNELS[kind]), 40_000)
    samples[:, 30:] += 1
    path = write_png(
        tmp_path / "x.png", samples, kind, 16, chunk(b"tRNS", struct.pack(">H", 40_000) * samples.shape[2])
    )
    image = shown(path, samples)
    np.testing.assert_array_equal(image[:, :30], np.broadcast_to(NAVY, (HEIGHT, 30, 3)))
    np.testing.assert_array_equal(image[:, 30:], 156)


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_all_sixteen_bit_values_are_rounded(tmp_path: Path, kind: str) -> None:
    values = np.arange(1 << 16).reshape(256, 256, 1)
    samples = values if kind == "grey" else np.concatenate([values, values[::-1], values[:, ::-1]], -1)
    image = shown(write_png(tmp_path / "x.png", samples, kind, 16), samples, CHANNELS[kind])
    np.testing.assert_array_equal(image, in_eight(samples, 16))


def test_a_rotated_image_of_sixteen_bits_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = noise("colour", 16)
    content = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    path = write_png(tmp_path / "x.png", samples, "colour", 16, content)
    image = preprocessing([WIDTH, HEIGHT])(path)
    np.testing.assert_array_equal(image, np.rot90(in_eight(samples, 16), -1))


@pytest.mark.parametrize("kind", ["grey", "colour", "grey with alpha", "colour with alpha"])
def test_a_cut_off_image_of_sixteen_bits_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_png(tmp_path / "x.png", noise(kind, 16), kind, 16)
    path.write_bytes(path.read_bytes()[:-40])
    with refused(path, "cannot be read as an image"):
        preprocessing()(path)
