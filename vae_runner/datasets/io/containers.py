"""Limits on the structure of an image file, checked block by block before anything of it is decoded.

A small file can ask for a lot. Pillow bounds what pixels and compressed text unpack to, but not how often a JPEG
paints over its pixels, how much metadata is kept and joined, or how much a pipe gives. A walk visits what Pillow would
read, and ends where the file is damaged: Pillow's message says what is wrong.
"""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

MAX_BYTES = 400_000_000  # of a file: the largest image, uncompressed
MAX_METADATA = 16_000_000  # bytes: several times what telephones add
FRAMES, SCANS, METADATA, PIECES = "frames", "scans", "blocks of metadata", "pieces"
MOST = {
    FRAMES: 1_000,  # More make a film, whose first frame nobody meant as an image.
    SCANS: 64,  # A progressive JPEG has about ten, and each goes over all pixels.
    METADATA: 4_000,
    PIECES: 2_000_000,  # of pixels, or skipped bytes
}

Blocks = Iterator[tuple[str, int]]  # the kind and size of each


def excess(path: Path) -> str | None:
    """Return why an image file is too dangerous to decode, as a predicate for its name ("has …"), or None.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    if not S_ISREG(status.st_mode):
        return "is no file but a folder, a pipe or a device"
    if status.st_size > MAX_BYTES:
        return f"has {status.st_size / 1e6:,.0f} MB, more than {MAX_BYTES / 1e6:,.0f}"
    counts: Counter[str] = Counter()
    metadata = 0
    with path.open("rb") as file:
        for kind, size in _blocks(file):
            counts[kind] += 1
            if counts[kind] > MOST[kind]:
                return f"has more than {MOST[kind]:,} {kind}"
            metadata += size if kind == METADATA else 0
            if metadata > MAX_METADATA:
                return f"has more than {MAX_METADATA / 1e6:,.0f} MB of metadata"
    return None


def _blocks(file: BinaryIO) -> Blocks:
    start = file.read(12)
    for beginning, walk in WALKS.items():
        if re.match(beginning, start, re.DOTALL):
            yield from walk(file)


def _png(file: BinaryIO) -> Blocks:
    kinds = {b"IDAT": PIECES, b"fdAT": PIECES, b"fcTL": FRAMES}
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            return
        yield kinds.get(name, METADATA), size
        file.seek(size + 4, 1)


def _webp(file: BinaryIO) -> Blocks:
    kinds = {b"VP8 ": PIECES, b"VP8L": PIECES, b"ALPH": PIECES, b"ANMF": FRAMES}
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        yield kinds.get(name, METADATA), size
        file.seek(size + size % 2, 1)


def _gif(file: BinaryIO) -> Blocks:
    def skip_colours(flags: int) -> None:
        if flags & 0x80:
            file.seek(3 << (flags & 7) + 1, 1)

    def pieces(kind: str) -> Blocks:
        while (size := file.read(1)) and size[0]:
            yield kind, size[0]
            file.seek(size[0], 1)

    file.seek(10)
    skip_colours(int.from_bytes(file.read(3)[:1]))
    while (introduction := file.read(1)) not in (b"", b";"):
        if introduction == b"!":
            yield from pieces(METADATA if file.read(1) == b"\xfe" else PIECES)  # Pillow keeps comments.
        elif introduction == b"," and len(place := file.read(9)) == 9:
            yield FRAMES, 0
            skip_colours(place[8])
            file.read(1)
            yield from pieces(PIECES)
        else:
            yield PIECES, 1


SEGMENTS = {*range(0xC0, 0xD0), *range(0xDA, 0xFF)}  # the markers that are followed by a length and a content
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # among pixels
SEARCH_BLOCK = 1 << 16  # bytes


def _jpeg(file: BinaryIO) -> Blocks:
    colours, scans_follow = 0, False
    file.seek(2)
    while byte := file.read(1):
        if byte == b"\xff":
            while (code := file.read(1)) == b"\xff":
                yield PIECES, 1
            marker = code[0] if code else 0
            content = file.read(max(int.from_bytes(file.read(2)) - 2, 0)) if marker in SEGMENTS else b""
            if marker in FRAME_HEADERS:
                colours, scans_follow = int.from_bytes(content[5:6]), marker not in (0xC0, 0xC1)
            if marker == 0xDA:
                yield SCANS, 0
                scans_follow = scans_follow or int.from_bytes(content[:1]) < colours
                if not scans_follow:
                    return
                _to_next_marker(file)
            else:
                yield METADATA, len(content)
        else:
            yield PIECES, 1


def _to_next_marker(file: BinaryIO) -> None:
    while len(block := file.read(SEARCH_BLOCK)) > 1:
        if found := MARKER.search(block):
            file.seek(found.start() - len(block), 1)
            return
        if block.endswith(b"\xff"):
            file.seek(-1, 1)


WALKS: dict[bytes, Callable[[BinaryIO], Blocks]] = {
    rb"\x89PNG\r\n\x1a\n": _png,
    rb"\xff\xd8\xff": _jpeg,
    rb"GIF8[79]a": _gif,
    rb"RIFF....WEBP": _webp,
}
