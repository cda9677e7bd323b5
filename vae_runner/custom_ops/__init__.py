"""Operations of our own for training on a CPU: compiled for the processor, once, where there is a C++ compiler."""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import tensorflow as tf
from filelock import FileLock

from vae_runner.custom_ops.gradients import register
from vae_runner.errors import first_line

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")  # the first there is, unless $CXX names one
# Without infinities set aside: a loss that is not finite must be seen. Eigen comes with TensorFlow's headers; its code
# for newer processors does not compile everywhere, and we use none of it.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-DEIGEN_DONT_VECTORIZE")
LANES = 16  # what channels must be a multiple of; kLanes
SIDE = 3  # of the kernels between images and maps; kSide
IMAGE_CHANNELS = (1, 3)


class UnavailableError(Exception):
    """The operations cannot be had here; the message says why."""


def load() -> Any:
    """The operations, as functions with gradients; compiled if no earlier run has.

    Raises:
        UnavailableError: there is no C++ compiler, or it does not compile them, or they cannot be kept.
    """
    operations, reason = _outcome()
    if reason:
        raise UnavailableError(reason)
    return operations


@cache  # also that there are none, so that not every run of a sweep tries again
def _outcome() -> tuple[Any, str]:
    """The operations, or why there are none."""
    try:
        compiler = _compiler()
        library = _library(compiler)
        if not library.exists():
            _compile(compiler, library)
        operations = tf.load_op_library(os.fspath(library))
    # RuntimeError: there is no home
    except (UnavailableError, OSError, RuntimeError, tf.errors.OpError) as error:
        return None, first_line(error)
    register(operations)
    return operations, ""


def _compiler() -> list[str]:
    """The command that $CXX says, or the first compiler there is."""
    if wanted := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(wanted[0]) is None:
            raise UnavailableError(f"CXX={shlex.join(wanted)}: there is no such compiler")
        return wanted
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise UnavailableError(f"there is no C++ compiler ({', '.join(COMPILERS)})")


def _library(compiler: list[str]) -> Path:
    """Where the compiled operations are kept: by all that they depend on, so that a home may be many machines'."""
    macros = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])  # compiler and processor
    sources = [file.read_text() for file in sorted(FOLDER.glob("*.[ch]*"))]
    parts = (*sources, *FLAGS, macros, tf.version.VERSION, tf.version.GIT_VERSION, *_tensorflow_flags())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vae-runner" / "custom_ops" / f"{name}.so"


def _compile(compiler: list[str], library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(library.with_suffix(".lock")):
        if library.exists():  # another run was first
            return
        log.info("Compiling operations for this processor, once: it takes some seconds")
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            compiled = Path(folder) / library.name
            source = os.fspath(FOLDER / "operations.cc")
            # What a compiler that is interrupted leaves goes with the folder.
            _run([*compiler, *FLAGS, source, "-o", os.fspath(compiled), *_tensorflow_flags()], TMPDIR=folder)
            with compiled.open("rb") as file:
                os.fsync(file.fileno())  # a library that is there is whole: half of one would end the process
            compiled.rename(library)


def _tensorflow_flags() -> list[str]:
    """Its headers as a system's: their warnings are not ours."""
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    return [flag.replace("-I", "-isystem", 1) if flag.startswith("-I") else flag for flag in flags]


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
        env={**os.environ, "LC_ALL": "C", **environment},  # its errors in English, to find them
    )  # fmt: skip
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error:" in line] or [f"status {done.returncode}"]
        raise UnavailableError(f"{command[0]}: {errors[0]}")
    return done.stdout
