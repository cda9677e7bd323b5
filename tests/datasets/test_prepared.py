import io
import json
import logging
import os
import platform
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.datasets.conftest import damage, full_disk, fuzzed, numbers, refused, tree, write_image, write_numbered
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.io import prepared
from vae_runner.datasets.io.prepared import MAX_PIXELS, WINDOW, Preprocessing, prepare
from vae_runner.datasets.io.stored import StoredImages

Pixels = np.ndarray[Any, Any]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NAVY = (16, 32, 48)


def preprocessing(size: Any = 8, channels: int = 3, background: Any = "white", crop: bool = False) -> Preprocessing:
    return Preprocessing.parse(size, channels, background, crop)


def save(path: Path, pixels: Pixels | Image.Image, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def bands(*colours: tuple[int, ...], height: int = 10, width: int = 10, dtype: type = np.uint8) -> Pixels:
    """Vertical bands of `width` pixels, one a colour."""
    return np.array([colours], dtype).repeat(height, 0).repeat(width, 1)


pytestmark = pytest.mark.filterwarnings("ignore:.*decompression bomb", "ignore:.*EXIF", "ignore:Tag data")

# --- one image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shape"), [(16, (16, 16)), ([10, 20], (10, 20)), ((20, 10), (20, 10))])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", [True, False])
def test_any_image_becomes_the_size_and_channels_asked_for(
    tmp_path: Path, size: Any, shape: tuple[int, int], channels: int, crop: bool
) -> None:
    for index, original in enumerate([(30, 7), (7, 30), (1, 1), shape[::-1]]):
        path = write_image(tmp_path / f"{index}.png", RED, original)
        image = preprocessing(size, channels, crop=crop)(path)
        assert image.shape == (*shape, channels)
        assert image.dtype == np.uint8
        assert len(np.unique(image.reshape(-1, channels), axis=0)) == 1


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    np.testing.assert_array_equal(preprocessing([9, 13])(save(tmp_path / "x.png", pixels)), pixels)


def test_stretching_keeps_the_edges_and_cropping_the_centre(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", bands(RED, GREEN, BLUE))
    stretched, cropped = preprocessing(10)(path), preprocessing(10, crop=True)(path)
    assert stretched[5, 0].tolist() == [255, 0, 0]
    assert stretched[5, 9].tolist() == [0, 0, 255]
    np.testing.assert_array_equal(cropped, bands(GREEN))


def test_colour_becomes_grey_by_its_brightness(tmp_path: Path) -> None:
    for colour, grey in ((RED, 0.299), (GREEN, 0.587), (BLUE, 0.114)):
        image = preprocessing(8, 1)(write_image(tmp_path / "x.png", colour))
        assert abs(int(image[0, 0, 0]) - 255 * grey) <= 1


def test_grey_becomes_colour_with_equal_channels(tmp_path: Path) -> None:
    assert np.unique(preprocessing(8, 3)(write_image(tmp_path / "x.png", 77))).tolist() == [77]


def transparent_left() -> Pixels:
    """Red that is transparent on the left half, opaque on the right; what lies under transparency is garbage."""
    return bands((*RED, 0), (*RED, 255))


def transparent_palette() -> Image.Image:
    image = Image.fromarray(bands((0,), (1,))[..., 0]).convert("P")
    image.putpalette([0, 255, 255, *RED])
    return image


TRANSPARENT: dict[str, Callable[[Path], Path]] = {
    "RGBA.png": lambda path: save(path, transparent_left()),
    "RGBA.webp": lambda path: save(path, transparent_left(), lossless=True, exact=True),
    "LA.png": lambda path: save(path, Image.fromarray(transparent_left()[..., [0, 3]])),
    "palette.png": lambda path: save(path, transparent_palette(), transparency=0),
    "palette.gif": lambda path: save(path, transparent_palette(), transparency=0),
    "palette with alphas.png": lambda path: save(path, transparent_palette(), transparency=bytes([0, 255])),
    "RGB.png": lambda path: save(path, bands((1, 2, 3), RED), transparency=(1, 2, 3)),
    "L.png": lambda path: save(path, bands((9,), (255,))[..., 0], transparency=9),
    "16-bit.png": lambda path: save(path, bands((40_000,), (65_535,), dtype=np.uint16)[..., 0], transparency=40_000),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize(
    ("background", "seen"),
    [("white", (255, 255, 255)), ("#102030", NAVY), (NAVY, NAVY), ([16, 32, 48], NAVY)],
    ids=["name", "hex", "tuple", "list"],
)
def test_transparency_shows_the_background(
    tmp_path: Path, kind: str, background: Any, seen: tuple[int, int, int]
) -> None:
    image = preprocessing([10, 20], background=background)(TRANSPARENT[kind](tmp_path / kind))
    np.testing.assert_array_equal(image[:, :10], bands(seen))
    grey = kind.startswith(("L", "16"))
    np.testing.assert_array_equal(image[:, 10:], bands((255, 255, 255) if grey else RED))


def test_half_transparency_is_half_the_background(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.png", (0, 0, 0, 51))
    np.testing.assert_allclose(preprocessing(8, background=(100, 200, 250))(path)[0, 0], [80, 160, 200], atol=1)


def test_images_are_put_on_the_background_as_alpha_compositing_puts_them(tmp_path: Path) -> None:
    opaque, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    pixels = np.stack([opaque, opaque[::-1], opaque[:, ::-1], alpha], -1)  # every value under every transparency
    path = save(tmp_path / "x.png", pixels)
    for background in ((255, 255, 255), (0, 0, 0), (16, 130, 201)):
        canvas = Image.new("RGBA", (256, 256), (*background, 255))
        expected = np.asarray(Image.alpha_composite(canvas, Image.fromarray(pixels)).convert("RGB"))
        np.testing.assert_array_equal(preprocessing(256, background=background)(path), expected)


def a_patch(seed: int, left: int, top: int, width: int, height: int) -> Pixels:
    """A patch of any colours under any transparency in an image of 90×70; around it garbage nobody sees."""
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 90, 4), np.uint8)
    seen = np.zeros((70, 90), bool)
    seen[top : top + height, left : left + width] = True
    pixels[~seen, 3] = 0
    return pixels


def palette(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels[..., 0]).convert("P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    return image


def grey_16(pixels: Pixels) -> Pixels:
    return np.where(pixels[..., 3] > 0, pixels[..., 0] * np.uint16(250) + 7, np.uint16(40_000))


MODES: dict[str, Callable[[Path, Pixels], Path]] = {
    "RGBA": lambda path, p: save(path, p),
    "LA": lambda path, p: save(path, Image.fromarray(np.ascontiguousarray(p[..., [0, 3]]))),
    "palette": lambda path, p: save(path, palette(p)),
    "palette with a transparent colour": lambda path, p: save(path, palette(p * (p[..., 3:] > 0)), transparency=0),
    "palette with alphas": lambda path, p: save(path, palette(p * (p[..., 3:] > 0)), transparency=bytes(range(256))),
    "RGB": lambda path, p: save(path, p[..., :3].copy()),
    "RGB with a transparent colour": lambda path, p: save(path, p[..., :3] * (p[..., 3:] > 0), transparency=(0, 0, 0)),
    "L": lambda path, p: save(path, p[..., 0].copy()),
    "L with a transparent grey": lambda path, p: save(path, p[..., 0] * (p[..., 3] > 0), transparency=0),
    "16-bit": lambda path, p: save(path, grey_16(p)),
    "16-bit with a transparent grey": lambda path, p: save(path, grey_16(p), transparency=40_000),
    "1-bit": lambda path, p: save(path, Image.fromarray(p[..., 0]).convert("1")),
}


def plainly(
    path: Path, size: list[int], channels: int, background: tuple[int, int, int], *, crop: bool = False
) -> Pixels:
    """The image in a PNG, every pixel of it put on the background, then cut if asked for, and resized."""
    with Image.open(path) as image:
        if image.mode.startswith("I"):
            transparent = image.info.get("transparency")
            wide = np.asarray(image)
            grey = Image.fromarray(np.round(wide / 257).astype(np.uint8))
            grey.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
            rgba = grey.convert("RGBA")
        else:
            rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*background, 255))
    whole = Image.alpha_composite(canvas, rgba).convert("RGB").convert("L" if channels == 1 else "RGB")
    width, height = whole.size
    if crop:
        width, height = min(width, height * size[1] / size[0]), min(height, width * size[0] / size[1])
    left, top = (whole.width - width) / 2, (whole.height - height) / 2
    box = (left, top, left + width, top + height)
    return np.asarray(whole.resize(size[::-1], Image.Resampling.BILINEAR, box)).reshape(*size, channels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [[32, 32], [35, 30], [96, 10], [71, 180], [8, 256]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_what_putting_it_whole_on_the_background_and_then_resizing_gives(
    tmp_path: Path, mode: str, size: list[int], channels: int
) -> None:
    patches = [(0, 0, 90, 70), (0, 0, 1, 1), (89, 69, 1, 1), (40, 30, 13, 9), (5, 50, 70, 1), (0, 0, 0, 0)]
    for seed, patch in enumerate(patches):
        path = MODES[mode](tmp_path / "x.png", a_patch(seed, *patch))
        expected = plainly(path, size, channels, NAVY)
        np.testing.assert_array_equal(preprocessing(size, channels, background=NAVY)(path), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [[32, 32], [96, 10], [8, 256]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cropped_image_is_put_on_the_background_and_resized_like_any_other(
    tmp_path: Path, mode: str, size: list[int], channels: int
) -> None:
    path = MODES[mode](tmp_path / "x.png", a_patch(0, 5, 20, 70, 30))
    expected = plainly(path, size, channels, NAVY, crop=True)
    found = preprocessing(size, channels, background=NAVY, crop=True)(path)
    np.testing.assert_array_equal(found, expected)


def test_background_is_grey_where_the_images_are(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.png", (*RED, 0))
    assert np.unique(preprocessing(8, 1, background="#404040")(path)).tolist() == [64]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    image = preprocessing(16, 1)(save(tmp_path / "x.png", grey * 257))
    np.testing.assert_array_equal(image[..., 0], grey)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    image = preprocessing(10, 1)(save(tmp_path / "x.png", Image.fromarray(bands((0,), (255,))[..., 0]).convert("1")))
    assert sorted({image[5, 0, 0], image[5, 9, 0]}) == [0, 255]


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95)
    np.testing.assert_allclose(preprocessing()(path)[4, 4], RED, atol=12)


def test_a_large_jpeg_has_its_colours_at_a_small_size(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", bands(RED, BLUE, height=400, width=300), quality=95)
    image = preprocessing([10, 20])(path)
    np.testing.assert_allclose(image[:, :8], bands(RED, width=8), atol=12)
    np.testing.assert_allclose(image[:, 12:], bands(BLUE, width=8), atol=12)


# How EXIF stores an upright image, by its orientation.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u),
    7: lambda u: u[::-1, ::-1].swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_rotated_photo_is_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.concatenate([bands(RED, GREEN, height=16, width=16), bands(BLUE, NAVY, height=32, width=16)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    quality = {} if suffix == "png" else {"quality": 100}
    path = save(tmp_path / f"x.{suffix}", stored, exif=exif, **quality)
    image = preprocessing([48, 32])(path).astype(int)
    for row, column in ((8, 8), (8, 24), (32, 8), (32, 24)):
        np.testing.assert_allclose(image[row, column], upright[row, column], atol=12)


def test_damaged_metadata_does_not_cost_an_image_nor_its_orientation(tmp_path: Path) -> None:
    entry = struct.Struct("<HHI4s").pack
    rotated = entry(0x0112, 3, 1, b"\6\0\0\0")
    text_for_a_number = entry(0x011A, 2, 4, b"abc\0")
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + rotated + text_for_a_number + bytes(4)
    path = save(tmp_path / "x.png", np.rot90(bands(RED, GREEN)), exif=exif)
    np.testing.assert_array_equal(preprocessing([10, 20])(path), bands(RED, GREEN))


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("webp", {"lossless": True}), ("png", {})])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in (RED, GREEN, BLUE)]
    path = save(tmp_path / f"x.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    np.testing.assert_array_equal(preprocessing(10)(path), bands(RED))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large; it has next to no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def encoded(format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(noise).save(stream, format, **options)
    return stream.getvalue()


BROKEN = {
    "zero bytes": b"",
    "text": b"this is no image",
    "html": b"<!DOCTYPE html><html></html>",
    "half a png": encoded("PNG")[:1500],
    "half a jpeg": encoded("JPEG")[:900],
    "half a gif": encoded("GIF")[:1200],
    "half a bmp": encoded("BMP")[:1500],
    "half a webp": encoded("WEBP")[:400],
    "a header": encoded("PNG")[:40],
    "another format": encoded("TIFF"),
    "large": png_header(10_000, MAX_PIXELS // 10_000 + 1),
    "absurdly large": png_header(200_000, 200_000),
    "larger than can be": png_header(2**31 - 1, 2**31 - 1),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_image_is_named_with_the_way_out(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(BROKEN[broken])
    with refused(path, "dataset.on_error=skip"):
        preprocessing()(path)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with refused("x.png is empty"):
        preprocessing()(tmp_path / "x.png")


def test_the_pixels_of_a_large_image_are_said(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(BROKEN["large"])
    with refused(f"10000×{MAX_PIXELS // 10_000 + 1}", f"{MAX_PIXELS:,}"):
        preprocessing()(tmp_path / "x.png")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = write_image(tmp_path / "x.png", 1)
    monkeypatch.setattr(Image, "open", denied)
    with refused(path, "Permission denied"):
        preprocessing()(path)


WHOLE = {
    "png": encoded("PNG"),
    "jpg": encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    "progressive": encoded("JPEG", progressive=True),
    "gif": encoded("GIF"),
    "bmp": encoded("BMP"),
    "webp": encoded("WEBP"),
}


@given(st.sampled_from(sorted(WHOLE)), st.integers(1, 4), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_damage_gives_an_image_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: int, near_the_start: bool, seed: int
) -> None:
    generator = random.Random(seed)
    content = bytearray(WHOLE[kind])
    for _ in range(changes):
        content[generator.randrange(120 if near_the_start else len(content))] = generator.randrange(256)
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content)
    try:
        with refused(path):
            assert preprocessing()(path).shape == (8, 8, 3)
    except pytest.fail.Exception:
        pass  # it was still an image


@pytest.mark.parametrize("size", [7, 4097, 0, -8, True, 8.5, "8", None, [8], [8, 8, 8], [8, 7], [8, "9"], []])
def test_an_image_size_that_is_none_is_refused(size: Any) -> None:
    with refused(f"dataset.image_size={size}", "[height, width]"):
        preprocessing(size)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_images_of_other_channels_than_grey_and_colour_are_refused(
    tmp_path: Path, channels: int, refusal: Callable[..., str]
) -> None:
    write_numbered(tmp_path / "photos", 3)
    said = refusal("vae-run", "dataset=folder", "dataset.root=photos", f"dataset.channels={channels}", cwd=tmp_path)
    assert f"dataset.channels={channels}: must be one of 1, 3" in said


@pytest.mark.parametrize("channels", [2, 4])
def test_a_dataset_of_other_channels_than_grey_and_colour_is_refused(channels: int) -> None:
    from vae_runner.datasets.dataset import check_dataset

    images = Split(np.zeros((2, 8, 8, channels), np.uint8))
    with refused(f"8×8×{channels}", "1 or 3 channels"):
        check_dataset(Dataset(images, images))


@pytest.mark.parametrize("background", ["whitish", "#12345", "#11223344", [1, 2], [1, 2, 256], [-1, 2, 3], 5, None])
def test_a_background_that_is_no_colour_is_refused(background: Any) -> None:
    with refused(f"dataset.background={background}", "#rrggbb"):
        preprocessing(background=background)


# --- many images ----------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as they are."""
    names: list[str] = []
    decode = Preprocessing.__call__

    def remember(self: Preprocessing, path: Path) -> Pixels:
        names.append(path.name)
        return decode(self, path)

    monkeypatch.setattr(Preprocessing, "__call__", remember)
    return names


def left(data_dir: Path) -> set[str]:
    """What lies under data_dir/prepared."""
    return tree(data_dir / "prepared")


def test_images_are_in_the_order_of_their_files(tmp_path: Path) -> None:
    files = write_numbered(tmp_path, 3 * WINDOW + 5)
    random.Random(0).shuffle(files)
    images, kept = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [int(file.stem) for file in files]
    assert kept.tolist() == list(range(len(files)))


def test_the_prepared_images_are_read_from_the_folder_when_asked_for(tmp_path: Path) -> None:
    images, _ = prepare(write_numbered(tmp_path, 3), preprocessing([8, 9], 1), tmp_path, "stop")
    assert isinstance(images, StoredImages)
    assert (images.shape, images.dtype) == ((3, 8, 9, 1), np.uint8)
    assert images.file.is_relative_to(tmp_path / "prepared")


def test_others_may_read_the_folder_as_the_umask_allows(tmp_path: Path) -> None:
    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    (tmp_path / "other").mkdir()
    assert images.file.parent.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text('{"shape": [3, "x"], "skipped": []}'),
        lambda folder: (folder / "manifest.json").write_text('{"shape": [3, 8, 8, 3], "skipped": 7}'),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "images.u8").unlink(),
        lambda folder: (folder / "images.u8").write_bytes(b"short"),
    ],
)
def test_what_was_damaged_is_prepared_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    files = write_numbered(tmp_path, 3)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    damage(images.file.parent)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [0, 1, 2]


@pytest.fixture(scope="module")
def three_of_four(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Four files, of which the second is broken, and where the other three are prepared."""
    data_dir = tmp_path_factory.mktemp("prepared")
    files = write_numbered(data_dir, 4)
    files[1].write_text("text")
    images, _ = prepare(files, preprocessing(), data_dir, "skip")
    return files, images.file.parent


@given(data=st.data())
@fuzzed(100)
def test_a_manifest_with_any_damage_is_made_anew_or_says_the_same(
    three_of_four: tuple[list[Path], Path], data: st.DataObject
) -> None:
    files, folder = three_of_four
    manifest = folder / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(data.draw(damage(whole)))
    images, kept = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == kept.tolist() == [0, 2, 3]
    assert json.loads(manifest.read_text()) == json.loads(whole)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another is skipped": lambda manifest: manifest["skipped"][0].__setitem__(0, 2),
    "none is skipped": lambda manifest: manifest.update(skipped=[]),
    "turned on its side": lambda manifest: manifest.update(shape=[3, 4, 16, 3]),
    "fewer": lambda manifest: manifest.update(shape=[2, 12, 8, 3]),
    "less than nothing": lambda manifest: manifest.update(shape=[-3, -8, 8, 3]),
    "a number that is none": lambda manifest: manifest.update(shape=[float("nan"), 8, 8, 3]),
    "no shape": lambda manifest: manifest.pop("shape"),
    "no checksum": lambda manifest: manifest.pop("sha256"),
    "another reason": lambda manifest: manifest["skipped"][0].__setitem__(1, None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_does_not_tell_the_truth_is_made_anew(
    three_of_four: tuple[list[Path], Path], lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    files, folder = three_of_four
    manifest = json.loads((folder / "manifest.json").read_text())
    LIES[lie](manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    images, kept = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == kept.tolist() == [0, 2, 3]
    assert "damaged" in caplog.text


@pytest.mark.parametrize("content", [b"[" * 100_000, b"9" * 100_000, b"null", b"[]", b'{"skipped": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_made_anew(three_of_four: tuple[list[Path], Path], content: bytes) -> None:
    files, folder = three_of_four
    (folder / "manifest.json").write_bytes(content)
    images, _ = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == [0, 2, 3]


@pytest.mark.parametrize("name", ["manifest.json", "images.u8"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_in_a_prepared_folder_is_made_anew(
    three_of_four: tuple[list[Path], Path], name: str, kind: str
) -> None:
    files, folder = three_of_four
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    images, _ = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == [0, 2, 3]
    assert (folder / name).is_file()


def test_a_file_in_place_of_the_prepared_folder_is_one_line(three_of_four: tuple[list[Path], Path]) -> None:
    files, folder = three_of_four
    shutil.rmtree(folder)
    folder.write_text("text")
    with refused(folder, "data_dir"):
        prepare(files, preprocessing(), folder.parent.parent, "skip")
    folder.unlink()


def test_what_a_killed_process_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = f"unfinished-{platform.node()}"
    names = [
        f"{here}-{ended.pid}-aa",
        f"{here}-{ended.pid}-bb",
        f"{here}-{os.getppid()}-aa",
        "unfinished-x-1-aa",
        "abc",
    ]
    for name in names:
        (tmp_path / "prepared" / name).mkdir(parents=True)
        (tmp_path / "prepared" / name / "images.u8").write_bytes(b"1234")
        for path in (tmp_path / "prepared" / name / "images.u8", tmp_path / "prepared" / name):
            os.utime(path, (1, 1))
    os.utime(tmp_path / "prepared" / names[1] / "images.u8")  # written to just now: by a process of another container

    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    assert {p.name for p in (tmp_path / "prepared").iterdir()} == {*names[1:], images.file.parent.name}


def test_two_processes_may_clear_the_same_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / "prepared" / f"unfinished-{platform.node()}-{ended.pid}-aa"
    leftover.mkdir(parents=True)

    def gone_meanwhile(_: int) -> bool:
        shutil.rmtree(leftover)
        return False

    monkeypatch.setattr(prepared, "_is_alive", gone_meanwhile)
    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    assert {p.name for p in (tmp_path / "prepared").iterdir()} == {images.file.parent.name}


def test_the_same_files_are_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    files = write_numbered(tmp_path, 5)
    first, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert sorted(decoded) == [file.name for file in files]
    before = left(tmp_path)
    again, kept = prepare(files, preprocessing(), tmp_path, "stop")
    assert len(decoded) == 5
    assert left(tmp_path) == before
    assert kept.tolist() == list(range(5))
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    "change", ["time", "content", "file", "order", "size", "channels", "background", "crop", "format"]
)
def test_whatever_changes_they_are_decoded_again(
    tmp_path: Path, decoded: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_numbered(tmp_path, 5)
    prepare(files, preprocessing(), tmp_path, "stop")
    decoded.clear()
    other = {
        "size": preprocessing([8, 9]),
        "channels": preprocessing(channels=1),
        "background": preprocessing(background="black"),
        "crop": preprocessing(crop=True),
    }
    if change == "time":
        os.utime(files[2], ns=(0, files[2].stat().st_mtime_ns + 1))
    elif change == "content":
        status = files[2].stat()
        write_image(files[2], 200, (20, 20))
        os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "file":
        files[2] = files[2].rename(tmp_path / "other.png")
    elif change == "order":
        files.reverse()
    elif change == "format":
        monkeypatch.setattr(prepared, "FORMAT", prepared.FORMAT + 1)
    images, _ = prepare(files, other.get(change, preprocessing()), tmp_path, "stop")
    assert sorted(decoded) == sorted(file.name for file in files)
    assert int(images[2].flat[0]) == (200 if change == "content" else 2)


def test_it_says_where_and_how_large_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_numbered(tmp_path, 5)

    def unreachable(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Preprocessing, "__call__", unreachable)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        prepare(files, preprocessing([100, 200]), tmp_path, "stop")
    assert "5 images as 100×200×3" in caplog.text
    assert "0.3 MB" in caplog.text
    assert str(tmp_path / "prepared") in caplog.text
    assert left(tmp_path) == set()


def test_a_disk_without_room_is_refused_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(64_000_000))
    with refused("5 images", "5 MB", "64 MB free", tmp_path / "prepared", "data_dir", "dataset.limit"):
        prepare(write_numbered(tmp_path, 5), preprocessing([500, 700]), tmp_path, "stop")
    assert decoded == []
    assert left(tmp_path) == set()


def test_a_disk_that_gets_full_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    files = write_numbered(tmp_path, 5)
    with full_disk(1000), refused(f"cannot write {tmp_path / 'prepared'}", "make room"):
        prepare(files, preprocessing(100), tmp_path, "stop")
    assert left(tmp_path) == set()


def test_a_data_dir_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(f"cannot write {tmp_path / 'file'}", "data_dir"):
        prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path / "file", "stop")


@pytest.fixture
def one_broken(tmp_path: Path) -> list[Path]:
    """Seven files, the fourth of which is text."""
    files = write_numbered(tmp_path, 7)
    files[3].write_text("text")
    return files


def test_a_broken_image_stops_it_and_nothing_is_left(tmp_path: Path, one_broken: list[Path]) -> None:
    with refused(one_broken[3], "dataset.on_error=skip"):
        prepare(one_broken, preprocessing(), tmp_path, "stop")
    assert left(tmp_path) == set()


def test_broken_images_are_skipped_and_counted_every_time(
    tmp_path: Path, one_broken: list[Path], decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    one_broken[5].write_bytes(b"")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            images, kept = prepare(one_broken, preprocessing(), tmp_path, "skip")
        assert "Skipped 2 of 7" in caplog.text
        assert str(one_broken[3]) in caplog.text
        assert numbers(images) == kept.tolist() == [0, 1, 2, 4, 6]
    assert len(decoded) == 7


def test_what_was_skipped_once_still_stops_the_next(tmp_path: Path, one_broken: list[Path]) -> None:
    prepare(one_broken, preprocessing(), tmp_path, "skip")
    with refused(one_broken[3]):
        prepare(one_broken, preprocessing(), tmp_path, "stop")
    write_image(one_broken[3], 3)
    images, _ = prepare(one_broken, preprocessing(), tmp_path, "stop")
    assert numbers(images) == list(range(7))


def test_when_all_are_broken_skipping_does_not_help(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.touch()
    for _ in range(2):
        with refused("none of the 2 images", files[0]):
            prepare(files, preprocessing(), tmp_path, "skip")


@pytest.mark.parametrize("kind", ["dangling link", "gone"])
def test_a_file_that_is_not_there_is_broken_too(tmp_path: Path, kind: str) -> None:
    files = write_numbered(tmp_path, 3)
    files[1].unlink()
    if kind == "dangling link":
        files[1].symlink_to(tmp_path / "nothing.png")
    with refused(files[1]):
        prepare(files, preprocessing(), tmp_path, "stop")
    images, kept = prepare(files, preprocessing(), tmp_path, "skip")
    assert numbers(images) == kept.tolist() == [0, 2]


def test_two_processes_that_prepare_the_same_end_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_numbered(tmp_path, 3)
    decode, first = Preprocessing.__call__, threading.Lock()

    def meanwhile(self: Preprocessing, path: Path) -> Pixels:
        if first.acquire(blocking=False):
            prepare(files, self, tmp_path, "stop")
        return decode(self, path)

    monkeypatch.setattr(Preprocessing, "__call__", meanwhile)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [0, 1, 2]
    assert len(list((tmp_path / "prepared").iterdir())) == 1


def test_few_images_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, most, written = 0, 0, 0
    lock, full = threading.Lock(), np.zeros((8, 8, 3), np.uint8)

    def decode(_: Preprocessing, __: Path) -> Pixels:
        nonlocal ahead, most
        with lock:
            ahead += 1
            most = max(most, ahead)
        return full

    monkeypatch.setattr(Preprocessing, "__call__", decode)
    files = [tmp_path / f"{i}.png" for i in range(5 * WINDOW)]
    for _ in prepared._decoded(files, preprocessing()):
        if written < 5:
            time.sleep(0.02)  # a slow disk
        with lock:
            ahead -= 1
        written += 1
    assert written == len(files)
    assert most <= WINDOW + 1
