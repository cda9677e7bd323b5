import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import examples
from tests.datasets.conftest import refused, write_image, write_numbered
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.io.preprocessing import MAX_PIXELS, Preprocessing

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


def test_the_pixels_of_a_large_image_are_named(tmp_path: Path) -> None:
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
@settings(max_examples=examples(200), deadline=None, derandomize=True, database=None)
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
