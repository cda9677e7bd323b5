"""Images from anyone: what would take all memory, or for ever, is named and refused before it is decoded."""

import functools
import io
import os
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.datasets.conftest import Outcome, damage, fuzzed, measured, refused, write_image
from vae_runner.datasets import folder
from vae_runner.datasets.io import containers
from vae_runner.datasets.io.preprocessing import MAX_PIXELS, MAX_SIDE, Preprocessing

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
TO_8 = Preprocessing.parse(8, 3, "white", crop=False)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*EXIF", "ignore:Tag data", "ignore::UserWarning", "ignore:.*decompression bomb"
)


def encoded(format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(NOISE[..., :3])).save(stream, format, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes | None = None) -> bytes:
    """A grey PNG of that size with these chunks before its pixels."""
    rows = zlib.compress(bytes((width + 1) * height)) if pixels is None else pixels
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return start + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deflated(megabytes: int) -> bytes:
    """So many megabytes of zeros, a thousandth of that."""
    packer = zlib.compressobj(wbits=-15)
    return b"\x78\x9c" + (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


def jpeg(*segments: bytes, **options: Any) -> bytes:
    """A JPEG with these segments at its start, and no others before its tables."""
    whole = encoded("JPEG", **options)
    return whole[:2] + b"".join(segments) + whole[2 + 2 + 16 :]


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif(size: int, entries: int, *, pointing_to: int = 0) -> bytes:
    """An EXIF directory, each entry of which claims all its bytes; the next directory is itself."""
    each = b"".join(struct.pack("<HHII", tag, 7, size - 8, 8) for tag in range(1, entries))
    pointers = struct.pack("<HHII", 0x8769, 4, 1, pointing_to or 8)  # the camera's own directory
    directory = b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + each + pointers + struct.pack("<I", 8)
    return directory + bytes(max(size - len(directory), 0))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("P", (8, 8), number % 2) for number in range(count)]


def gif(count: int) -> bytes:
    """An animation of so many frames, all but the first very short."""
    whole = encoded("GIF", frames(1)[0])
    frame = b",\0\0\0\0\1\0\1\0\0\x02\x02\x4c\x01\0"
    return whole[:-1] + frame * (count - 1) + b";"


def apng(count: int) -> bytes:
    controls = [chunk(b"fcTL", struct.pack(">5I2H2B", number, 8, 8, 0, 0, 1, 10, 0, 0)) for number in range(count)]
    return png(8, 8, chunk(b"acTL", struct.pack(">2I", count, 0)), *controls)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    content = b"WEBP" + b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for name, body in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def canvas(width: int, height: int) -> tuple[bytes, bytes]:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"VP8X", bytes([2, 0, 0, 0]) + sides


def bmp(width: int, height: int) -> bytes:
    whole = bytearray(encoded("BMP"))
    whole[18:26] = struct.pack("<2i", width, height)
    return bytes(whole)


def with_size(whole: bytes, width: int, height: int) -> bytes:
    """A JPEG that says another size."""
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">2H", height, width) + whole[at + 4 :]


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    whole = encoded("JPEG", Image.new("L", (800, 800), 128), progressive=True)
    return whole[:-2] + whole[whole.rindex(b"\xff\xc4") : -2] * count + b"\xff\xd9"


INFLATING = deflated(1000)
RAW_PROFILE = b"Raw profile type exif\0\0"

# Content, and what is said of it.
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png of 400 million pixels": (lambda: png(20_000, 20_000, pixels=deflated(400)), "pixels"),
    "png header of 60,000": (lambda: png(60_000, 60_000, pixels=b""), "pixels"),
    "jpeg header of 60,000": (lambda: with_size(encoded("JPEG"), 60_000, 60_000), "pixels"),
    "gif header of 60,000": (lambda: b"GIF89a" + struct.pack("<2H", 60_000, 60_000) + gif(1)[10:], "pixels"),
    "gif frame of 60,000": (lambda: gif(1).replace(b",\0\0\0\0\x08\0\x08\0", b",\0\0\0\0\x60\xea\x60\xea"), "pixels"),
    "bmp header of 60,000": (lambda: bmp(60_000, 60_000), "pixels"),
    "webp header of 60,000": (lambda: webp(canvas(60_000, 60_000), (b"ANIM", bytes(6))), "pixels"),
    "80 million pixels in one row": (lambda: png(80_000_000, 1, pixels=deflated(80)), f"{MAX_SIDE:,} along a side"),
    "80 million pixels in one column": (lambda: png(1, 80_000_000, pixels=deflated(160)), f"{MAX_SIDE:,} along a side"),
    "gif of 10,000 frames": (lambda: gif(10_000), "more than 1,000 frames"),
    "png of 10,000 frames": (lambda: apng(10_000), "more than 1,000 frames"),
    "webp of 10,000 frames": (lambda: webp(canvas(8, 8), *[(b"ANMF", bytes(24))] * 10_000), "more than 1,000 frames"),
    "gif with a comment of 10 MB": (lambda: gif(1)[:-1] + b"!\xfe" + (b"\xff" * 256) * 40_000 + b"\0;", "metadata"),
    "gif of single bytes": (lambda: gif(1)[:-2] + b"\1\0" * 2_100_000 + b"\0;", "more than 2,000,000 pieces"),
    "zTXt of 1 GB": (lambda: png(8, 8, chunk(b"zTXt", b"x\0\0" + INFLATING)), "too large"),
    "iTXt of 1 GB": (lambda: png(8, 8, chunk(b"iTXt", b"x\0\1\0\0\0" + INFLATING)), "too large"),
    "iCCP of 1 GB": (lambda: png(8, 8, chunk(b"iCCP", b"x\0\0" + INFLATING)), "too large"),
    "packed EXIF of 1 GB": (lambda: png(8, 8, chunk(b"zTXt", RAW_PROFILE + INFLATING)), "too large"),
    "a thousand zTXt of 1 MB": (lambda: png(8, 8, *[chunk(b"zTXt", b"x\0\0" + deflated(1))] * 1000), "memory"),
    "EXIF of 20 MB in a png": (lambda: png(8, 8, chunk(b"eXIf", exif(20 << 20, 65_535))), "16 MB of metadata"),
    "EXIF of 20 MB in a webp": (
        lambda: webp(canvas(8, 8), (b"EXIF", exif(20 << 20, 65_535))), "16 MB of metadata",
    ),
    "EXIF in 100,000 segments": (lambda: jpeg(*[segment(0xE1, b"Exif\0\0" + bytes(100))] * 100_000), "4,000 blocks"),
    "EXIF of 24 MB in segments": (lambda: jpeg(*[segment(0xE1, b"Exif\0\0" + bytes(60_000))] * 400), "16 MB"),
    "a million chunks": (lambda: png(8, 8, *[chunk(b"prIv", b"")] * 1_000_000), "4,000 blocks"),
    "a million segments": (lambda: jpeg(*[segment(0xEF, b"")] * 1_000_000), "4,000 blocks"),
    "jpeg of 20,000 scans": (lambda: scans(20_000), "more than 64 scans"),
    "jpeg after 2 MB of nothing": (lambda: jpeg(segment(0xEF, b""), bytes(2_100_000)), "more than 2,000,000 pieces"),
}  # fmt: skip

# What an image may have: it is decoded, and takes no more for it.
USABLE: dict[str, Callable[[], bytes]] = {
    "gif of 1,000 frames": lambda: gif(1000),
    "png of 1,000 frames": lambda: apng(1000),
    "webp of 3 frames": lambda: encoded("WEBP", frames(1)[0], save_all=True, append_images=frames(3)[1:]),
    "progressive jpeg": lambda: scans(5),
    "pixels of 1 GB for 8×8": lambda: png(8, 8, pixels=INFLATING),
    "EXIF in a circle": lambda: jpeg(segment(0xE1, b"Exif\0\0" + exif(64, 2))),
    "EXIF whose entries claim 300 MB": lambda: jpeg(segment(0xE1, b"Exif\0\0" + exif(65_000, 5_000))),
    "EXIF whose entries claim 64 TB": lambda: png(8, 8, chunk(b"eXIf", exif(15 << 20, 65_535))),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What is said of each of these files when it is decoded."""
    parent = tmp_path_factory.mktemp("bombs")
    makers = {kind: make for kind, (make, _) in BOMBS.items()} | USABLE
    paths = [parent / f"{number}.png" for number in range(len(makers))]
    for path, make in zip(paths, makers.values(), strict=True):
        path.write_bytes(make())
    found = measured(paths, "TO_8(path).shape", PREPROCESSING)
    return dict(zip(makers, found, strict=True))


PREPROCESSING = """
from vae_runner.datasets.io.preprocessing import Preprocessing
TO_8 = Preprocessing.parse(8, 3, "white", False)
"""


# Earlier versions copy all that the entries of an EXIF directory claim to have, and have a message of their own for a
# canvas that is too large: the image is refused where that takes more memory than there is.
OF_PILLOW_13 = {"EXIF whose entries claim 300 MB", "EXIF whose entries claim 64 TB", "webp header of 60,000"}
NEEDS_PILLOW_13 = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow 13 or later promises it"
)


def kinds(of: Iterable[str]) -> list[object]:
    return [pytest.param(kind, marks=NEEDS_PILLOW_13) if kind in OF_PILLOW_13 else kind for kind in of]


@pytest.mark.parametrize("kind", kinds(BOMBS))
def test_a_bomb_is_named_and_refused_in_little_memory_and_time(outcomes: dict[str, Outcome], kind: str) -> None:
    outcome = outcomes[kind]
    assert outcome.said.split()[0].endswith(".png")
    assert BOMBS[kind][1] in outcome.said
    assert "dataset.on_error=skip" in outcome.said
    assert outcome.megabytes < 200
    assert outcome.seconds < 10


@pytest.mark.parametrize("kind", kinds(USABLE))
def test_what_only_looks_dangerous_is_decoded_in_little_memory_and_time(
    outcomes: dict[str, Outcome], kind: str
) -> None:
    assert outcomes[kind].said == "(8, 8, 3)"
    assert outcomes[kind].megabytes < 200
    assert outcomes[kind].seconds < 10


# --- what is no file ------------------------------------------------------------------------------------------


@pytest.fixture
def oddities(tmp_path: Path) -> dict[str, Path]:
    """Things that are called like images and are none, next to eight images."""
    for number in range(8):
        write_image(tmp_path / "photos" / f"{number}.png", number)
    paths = {kind: tmp_path / "photos" / f"{kind}.png" for kind in ("pipe", "device", "socket", "dangling", "large")}
    os.mkfifo(paths["pipe"])
    paths["device"].symlink_to("/dev/zero")
    paths["dangling"].symlink_to("nowhere.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(paths["socket"]))
    with paths["large"].open("wb") as file:
        file.write(encoded("PNG"))
        file.truncate(1 << 40)  # takes no room
    return paths


SAID = {"pipe": "a pipe", "device": "a device", "socket": "no file", "dangling": "No such file", "large": "MB"}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_no_file_is_named_and_never_opened(oddities: dict[str, Path], kind: str) -> None:
    with refused(oddities[kind], SAID[kind], "dataset.on_error=skip"):
        TO_8(oddities[kind])


def test_a_folder_with_all_of_them_is_read_without_them(oddities: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "photos" / "folder.png").mkdir()
    (tmp_path / "photos" / "linked.png").symlink_to(tmp_path)  # to a folder it lies in
    dataset = folder.load(
        root=str(tmp_path / "photos"), data_dir=str(tmp_path), image_size=8, on_error="skip", test_fraction=0.5
    )
    assert sum(len(split) for split in dataset.splits.values()) == 8


# --- memory ---------------------------------------------------------------------------------------------------

MEGAPIXELS = 4
FULL = (2000, 2000)


def wide_png(colour_type: int, channels: int, *chunks: bytes) -> bytes:
    """A PNG of that many pixels with 16 bits a sample, and these chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">2I5B", *FULL, 16, colour_type, 0, 0, 0))
    rows = zlib.compress(bytes([0, *[7] * (2 * channels * FULL[0])]) * FULL[1], 1)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@functools.cache
def full_size() -> dict[str, bytes]:
    """Images of that many pixels, of the kinds that take the most memory."""
    alpha = Image.new("L", FULL, 128)
    palette = Image.new("P", FULL, 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    rotated = Image.Exif()
    rotated[0x0112] = 6
    return {
        "RGBA": encoded("PNG", Image.merge("RGBA", [alpha] * 4), exif=rotated),
        "LA": encoded("PNG", Image.merge("LA", [alpha] * 2), exif=rotated),
        "palette": encoded("PNG", palette, transparency=0),
        "16 bits": encoded("PNG", Image.new("I;16", FULL, 700), transparency=7),
        "RGB of 16 bits": wide_png(2, 3, chunk(b"tRNS", bytes(6))),
        "RGBA of 16 bits": wide_png(6, 4, chunk(b"eXIf", rotated.tobytes().removeprefix(b"Exif\0\0"))),
        "CMYK": encoded("JPEG", Image.merge("CMYK", [alpha] * 4), progressive=True, exif=rotated),
        "WebP": encoded("WEBP", Image.merge("RGBA", [alpha] * 4), lossless=True, quality=0, method=0, exif=rotated),
    }


def test_an_image_takes_at_most_20_bytes_a_pixel(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}.png" for kind in full_size()]
    for path, content in zip(paths, full_size().values(), strict=True):
        path.write_bytes(content)
    for outcome in measured(paths, "TO_512(path).shape", PREPROCESSING + TO_512):
        assert outcome.said == "(512, 512, 3)"
        assert outcome.megabytes <= 20 * MEGAPIXELS + 512 * 512 * 3 / 1e6
    assert MAX_PIXELS * 20 < 2e9  # of the largest


TO_512 = """
TO_512 = Preprocessing.parse(512, 3, "white", False)
"""


def test_many_cores_take_no_more_memory_than_one_image_of_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(full_size()["LA"])
    imports = f"""
import os
from vae_runner.datasets.io import prepared, preprocessing
preprocessing.MAX_PIXELS = {MEGAPIXELS * 1_000_000 + 1000}
os.cpu_count = lambda: 16
to_8 = preprocessing.Preprocessing.parse(8, 3, "white", False)
"""
    # Of what was given back, glibc keeps some for each thread: up to 64 MB, unless they share one arena.
    call = "len(list(prepared.decoded([path] * 16, to_8)))"
    (outcome,) = measured([path], call, imports, MALLOC_ARENA_MAX="1")
    assert outcome.said == "16"
    assert outcome.megabytes <= 20 * MEGAPIXELS


# --- damage ---------------------------------------------------------------------------------------------------


def camera() -> Image.Exif:
    """What a camera writes, the image lying on its side."""
    found = Image.Exif()
    found[0x0112], found[0x011A], found[0x0128], found[0x010E] = 6, 72.0, 2, "words"
    return found


def texts() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("words", "many " * 50, zip=True)
    found.add_itxt("XML:com.adobe.xmp", "<tiff:Orientation>6</tiff:Orientation>", zip=True)
    return found


def run_lengths(bits: int) -> bytes:
    """A bitmap that says its pixels are packed."""
    whole = bytearray(encoded("BMP", Image.fromarray(NOISE[..., 0]).convert("P")))
    whole[28:30], whole[30:34] = struct.pack("<H", bits), struct.pack("<I", 1 if bits == 8 else 2)
    return bytes(whole)


ANIMATION = {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1, :, :3])]}
WHOLE = {
    "png": encoded("PNG", exif=camera(), pnginfo=texts()),
    "png, palette": encoded("PNG", Image.fromarray(NOISE[..., :3]).convert("P"), transparency=3),
    "png, 16 bits": encoded("PNG", Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), transparency=300),
    "png, animated": encoded("PNG", **ANIMATION),
    "jpeg": encoded("JPEG", exif=camera(), comment=b"words"),
    "jpeg, progressive": encoded("JPEG", progressive=True),
    "jpeg, cmyk": encoded("JPEG", Image.fromarray(NOISE).convert("CMYK")),
    "jpeg, several": encoded("MPO", **ANIMATION),
    "gif": encoded("GIF", comment=b"words", transparency=2),
    "gif, animated": encoded("GIF", **ANIMATION),
    "bmp": encoded("BMP"),
    "bmp, packed": run_lengths(8),
    "bmp, packed to 4 bits": run_lengths(4),
    "webp": encoded("WEBP", exif=camera()),
    "webp, lossless": encoded("WEBP", Image.fromarray(NOISE), lossless=True),
    "webp, animated": encoded("WEBP", **ANIMATION),
}


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums that belong to them, so that what they say is believed."""
    mended, at = bytearray(content[:8]), 8
    while at + 12 <= len(content) and content.startswith(b"\x89PNG"):
        size = int.from_bytes(content[at : at + 4])
        mended += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size])
        at += 12 + size
    return bytes(mended) + content[at:] if at > 8 else content


@given(st.sampled_from(sorted(WHOLE)), st.sampled_from([40, 200, 0]), st.booleans(), st.data())
@fuzzed(400)
def test_any_damage_gives_an_image_of_the_promised_shape_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, head: int, mended: bool, data: st.DataObject
) -> None:
    content = data.draw(damage(WHOLE[kind], head))
    path = tmp_path_factory.getbasetemp() / "any damage.png"
    path.write_bytes(with_checksums(content) if mended else content)
    start = time.monotonic()
    try:
        with refused(path, "dataset.on_error=skip"):
            image = TO_8(path)
    except pytest.fail.Exception:
        assert image.shape == (8, 8, 3)
        assert image.dtype == np.uint8
    assert time.monotonic() - start < 20


@given(st.sampled_from(list(containers.WALKS)), st.binary(max_size=300))
@fuzzed(200)
def test_any_bytes_after_a_known_beginning_are_walked_to_their_end(
    tmp_path_factory: pytest.TempPathFactory, beginning: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any bytes.png"
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP")
    path.write_bytes(next(start for start in starts if re.match(beginning, start)) + rest)
    containers.excess(path)
    with refused(path):
        TO_8(path)


@pytest.mark.parametrize("searched", [2, 3, 7, containers.SEARCH_BLOCK])
def test_scans_are_counted_wherever_their_markers_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    monkeypatch.setattr(containers, "SEARCH_BLOCK", searched)
    for kind, number in (("jpeg", 1), ("jpeg, progressive", 10)):
        path = tmp_path / f"{kind}.jpg"
        path.write_bytes(WHOLE[kind])
        with path.open("rb") as file:
            walked = [block for block, _ in containers._jpeg(file)]
        assert walked.count(containers.SCANS) == number
