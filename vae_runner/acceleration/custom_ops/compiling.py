"""Compiling the custom operations; without TensorFlow, so that it runs while TensorFlow is imported."""

import atexit
import hashlib
import importlib.util
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from threading import Thread

from vae_runner.errors import first_line
from vae_runner.files.locks import Lock

log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The operations are not available on this machine; the text says why."""


FOLDER = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")  # the first there is, unless $CXX names one
# There is no -ffast-math, which assumes finite numbers: a loss that is not finite must be noticed. Eigen comes with
# TensorFlow's headers; its code for newer processors does not compile everywhere, and none of it is used. The rest is
# what `tf.sysconfig` says.
FLAGS = (
    *("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-DEIGEN_DONT_VECTORIZE"),
    *("-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64"),
)
MOST_SECONDS = 120
TENSORFLOW_LIBRARY = "libtensorflow_framework.so.2"

_compiled: set[Path] = set()  # by this process


def begin() -> None:
    """Begin to compile in the background, unless this process has done so already."""
    _begun()


def library() -> Path:
    """Return the file of the compiled operations, when it is there; raise UnavailableError where it cannot be made."""
    error = _begun().exception()
    if isinstance(error, UnavailableError | OSError):
        # A new exception is raised: the traceback of the cached one would keep its callers alive.
        raise UnavailableError(first_line(error))
    return _begun().result()


def distrust(library: Path, reason: str) -> None:
    """Let the next process compile a library again that cannot be loaded; none if this process has just done so."""
    with suppress(OSError):
        if library in _compiled:
            _unloadable(library).write_text(reason, encoding="utf-8")
        _checksum(library).unlink(missing_ok=True)


@cache  # A failure is cached too, so that not every run of a sweep tries again.
def _begun() -> Future[Path]:
    future: Future[Path] = Future()

    def work() -> None:
        try:
            future.set_result(_made())
        except BaseException as error:  # Otherwise whoever asks for the result would wait for ever.
            future.set_exception(error)

    Thread(target=work, daemon=True).start()  # nothing waits for it at the end
    return future


def _made() -> Path:
    if sys.platform != "linux":
        raise UnavailableError("they are for Linux")
    compiler, tensorflow = _compiler(), _tensorflow()
    library = _library(compiler, tensorflow)
    try:
        if (note := _unloadable(library)).exists():
            raise UnavailableError(f"{note.read_text(encoding='utf-8')} (delete {note} to have it tried again)")
        if not _is_intact(library):
            _compile(compiler, tensorflow, library)
    except OSError as error:
        raise UnavailableError(f"they cannot be kept in {library.parent} ({error.strerror})") from error
    return library


def _compiler() -> list[str]:
    """Return the command in $CXX, or the first compiler that is installed."""
    said = os.environ.get("CXX", "")
    try:
        wanted = shlex.split(said)
    except ValueError as error:
        raise UnavailableError(f"CXX={said}: {error}") from error
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise UnavailableError(f"CXX={said}: there is no such compiler")
        return wanted
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise UnavailableError(f"there is no C++ compiler ({', '.join(COMPILERS)})")


def _tensorflow() -> Path:
    """Return the folder in which TensorFlow is installed."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _library(compiler: list[str], tensorflow: Path) -> Path:
    """Return the file for the compiled operations, named by all they depend on: machines may share a home folder."""
    macros = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])  # compiler and processor
    sources = [file.read_bytes() for file in sorted(FOLDER.glob("*.[ch]*"))]
    installed = (tensorflow / TENSORFLOW_LIBRARY).stat()
    others = (*FLAGS, macros, str(tensorflow), str(installed.st_size), str(installed.st_mtime_ns))
    name = hashlib.sha256(b"\0".join([*sources, *(part.encode() for part in others)])).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise UnavailableError(f"they cannot be kept: {error}") from error
    return cache / "vae-runner" / "custom_ops" / f"{name}.so"


def _is_intact(library: Path) -> bool:
    """Return whether a library has its checksum: loading half of one would end the process."""
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest().encode() == _checksum(library).read_bytes()
    except FileNotFoundError:
        return False


def _checksum(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _unloadable(library: Path) -> Path:
    """Return the file that says why the library cannot be loaded, for example because its folder forbids execution."""
    return library.with_suffix(".unloadable")


def _compile(compiler: list[str], tensorflow: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with Lock(library.with_suffix(".lock")):
        if _is_intact(library):  # Another run was first.
            return
        for left in library.parent.glob(f"{library.stem}*/"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        log.info("Compiling operations for this processor, once: it takes some seconds")
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=library.stem) as folder:
            compiled = Path(folder) / library.name
            command = [*compiler, *FLAGS, os.fspath(FOLDER / "operations.cc"), "-o", os.fspath(compiled)]
            headers = ["-isystem", os.fspath(tensorflow / "include")]  # as a system's: their warnings are not ours
            # What an interrupted compiler leaves is deleted with the folder.
            _run([*command, *headers, f"-L{tensorflow}", f"-l:{TENSORFLOW_LIBRARY}"], TMPDIR=folder)
            if not compiled.exists():
                raise UnavailableError(f"{shlex.join(compiler)} made nothing")
            _checksum(library).write_text(hashlib.sha256(compiled.read_bytes()).hexdigest())
            compiled.rename(library)
            _compiled.add(library)


def _run(command: list[str], **environment: str) -> str:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        process_group=0,  # a compiler has processes of its own, which are to end with it
        env={**os.environ, "LC_ALL": "C", **environment},  # its errors in English, to find them
    )  # fmt: skip
    end = partial(os.killpg, process.pid, signal.SIGKILL)
    atexit.register(end)  # where the run is interrupted
    try:
        output, errors = process.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired as error:
        end()
        raise UnavailableError(f"{command[0]} took more than {MOST_SECONDS} s") from error
    finally:
        atexit.unregister(end)
    if process.returncode:
        lines = [line for line in errors.splitlines() if "error:" in line] or [f"status {process.returncode}"]
        raise UnavailableError(f"{command[0]}: {lines[0]}")
    return output
