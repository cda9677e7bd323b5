"""What the tests of the datasets share: a file server on loopback, small files of every kind, a disk that gets full."""

import gzip
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import examples
from vae_runner.errors import UserError


def fuzzed(count: int) -> settings:
    """So many examples in CI, the same ones every time."""
    return settings(max_examples=examples(count), deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither Keras's cache nor a proxy of the machine the tests run on; other tests' commands have both again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        patch.setenv("no_proxy", "*")
        yield


@contextmanager
def refused(*mentions: object) -> Iterator[None]:
    """What happens inside raises a `UserError` of one line that names all of these."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for mention in mentions:
        assert str(mention) in message


def tree(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextmanager
def full_disk(size: int = 100) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


class Outcome(NamedTuple):
    said: str  # what was returned, or what the `UserError` says
    megabytes: int  # the most memory so far, above what the imports took
    seconds: float


MEASURED = """
import sys, time
from pathlib import Path
from vae_runner.errors import UserError
{imports}
def peak():  # of this process alone; ru_maxrss would begin with what its parent takes
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
before = peak()
for path in map(Path, sys.argv[1:]):
    start = time.monotonic()
    try:
        said = {call}
    except UserError as error:
        said = error
    print(peak() - before, time.monotonic() - start, said, flush=True)
"""


def measured(paths: Sequence[Path], call: str, imports: str, **environment: str) -> list[Outcome]:
    """What a call says of each `path`, and the memory and time it takes, in one process that would get no more."""
    script = MEASURED.format(imports=imports, call=call)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *paths],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [line.split(" ", 2) for line in ended.stdout.splitlines()]
    assert len(lines) == len(paths)  # each said one line
    return [Outcome(said, int(megabytes), float(seconds)) for megabytes, seconds, said in lines]


# --- damage ---------------------------------------------------------------------------------------------------


@st.composite
def damage(draw: st.DrawFn, content: bytes, head: int = 0) -> bytes:
    """`content` with bytes changed, cut off, cut out or doubled, once or several times; half of it within `head`."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        most = max(len(damaged) - 1, 0)
        positions = st.integers(0, most)
        start = draw(st.integers(0, min(head, most)) | positions if head else positions)
        end = min(start + draw(st.integers(0, 64) | positions), len(damaged))
        match draw(st.sampled_from(["change", "change", "fill", "cut", "out", "double"])):
            case "change":
                damaged[start : start + 1] = bytes([draw(st.integers(0, 255))])
            case "fill":
                damaged[start:end] = bytes([draw(st.sampled_from([0, 127, 128, 255]))]) * (end - start)
            case "cut":
                del damaged[start:]
            case "out":
                del damaged[start:end]
            case "double":
                damaged[start:start] = damaged[start:end]
    return bytes(damaged)


# --- a server -------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    path: str
    range: str | None


class FileServer(ThreadingHTTPServer):
    """Serves `files` on 127.0.0.1, well or badly, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[Request] = []
        self.busy = 0  # answers so many requests with 503
        self.breaks = 0  # breaks off so many answers half-way
        self.resets = False  # breaks off with a reset, not an orderly end
        self.ranges = True  # understands the Range header
        self.lengths = True  # says how long a file is
        self.endless = False  # has no end, neither of files nor of what comes with a redirection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless the other side hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(Request(self.path, asked))
        if server.busy:
            server.busy -= 1
            self.send_error(503)
        elif self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
            self._send_on()
        elif self.path not in server.files:
            self.send_error(404)
        else:
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            self._send(server.files[self.path], start)

    def _send(self, content: bytes, start: int) -> None:
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self._send_on()
        if self.server.resets and len(rest) < len(content) - start:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send_on(self) -> None:
        while self.server.endless:
            self.wfile.write(bytes(1 << 16))  # until the other side hangs up

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


# --- files ----------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array of unsigned bytes in the IDX format."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_parts(value: int, count: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    """A small dataset, all of whose pixels have this value: `count` training images and one test image."""
    return {
        "train_images": np.full((count, 8, 9), value, np.uint8),
        "train_labels": np.arange(count, dtype=np.uint8),
        "test_images": np.full((1, 8, 9), value, np.uint8),
        "test_labels": np.zeros(1, np.uint8),
    }


IDX_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def write_idx(folder: Path, parts: dict[str, np.ndarray[Any, Any]], *, zipped: bool = True) -> Path:
    """The four files of a dataset, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in parts.items():
        content = idx_bytes(array)
        name = IDX_NAMES[part]
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def write_image(path: Path, colour: int | Sequence[int], size: tuple[int, int] = (12, 10)) -> Path:
    """An image of one colour, grey or RGB or RGBA, `size` being (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = [colour] if isinstance(colour, int) else list(colour)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[len(channels)]
    Image.new(mode, size, colour if isinstance(colour, int) else tuple(colour)).save(path)
    return path


def write_numbered(folder: Path, count: int) -> list[Path]:
    """Images 00.png, 01.png, …; the grey value of each is its number."""
    return [write_image(folder / f"{number:02}.png", number) for number in range(count)]


def numbers(images: Any) -> list[int]:
    """The numbers of images that `write_numbered` wrote, read from their pixels."""
    return [int(image.flat[0]) for image in np.asarray(images)]
