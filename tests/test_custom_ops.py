"""That the custom operations are compiled once, where they can be, and else done without."""

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vae_runner import custom_ops, hardware
from vae_runner.config import HardwareConfig
from vae_runner.errors import UserError

USE = """
import logging, sys
import numpy as np, tensorflow as tf
from vae_runner import custom_ops
logging.basicConfig(level=logging.INFO, format="%(message)s")
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
ops = custom_ops.load()
random = np.random.default_rng(0)
x, y, kernel = (random.normal(size=shape).astype("f") for shape in [(9, 40, 50, 48), (9, 40, 50, 1), (3, 3, 1, 48)])
gamma, beta = np.ones(48, "f"), np.zeros(48, "f")
bias = np.ones(1, 'f')
made = ops.vae_runner_made_images(x=x, gamma=gamma, beta=beta, kernel=kernel, bias=bias, epsilon=1e-3, slope=0.2)
results = [*made, *ops.vae_runner_made_images_grad(
    dimages=y, x=x, gamma=gamma, beta=beta, kernel=kernel, mean=made[1], variance=made[2], epsilon=1e-3, slope=0.2
)]
maps = ops.vae_runner_convolved_images(images=y, kernel=kernel, bias=beta, stride=1, slope=0.2)
results += [maps, *ops.vae_runner_convolved_images_grad(
    dmaps=x, images=y, kernel=kernel, bias=beta, stride=1, slope=0.2
)]
square = kernel.repeat(48, 2)
results += [ops.vae_runner_convolution_inputs(outputs=maps, kernel=square, stride=2, height=79, width=100)]
results += [ops.vae_runner_patch_sums(images=y, pivot=0.0, stride=1)]
sys.stdout.buffer.write(b"".join(np.asarray(result).tobytes() for result in results))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vae-runner" / "custom_ops"


@pytest.fixture
def compiler() -> str:
    try:
        return custom_ops._compiler()
    except custom_ops.UnavailableError as error:
        pytest.skip(str(error))


def test_processes_at_once_compile_once_and_compute_the_same_bits_with_any_number_of_threads(
    cache: Path, compiler: str
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", USE, threads], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
        )
        for threads in ("1", "2")
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1].decode()[-500:]
    assert sum(errors.count(b"Compiling") for _, errors in outputs) == 1
    assert len([file for file in cache.iterdir() if file.suffix != ".lock"]) == 1
    first, second = (hashlib.sha256(bits).hexdigest() for bits, _ in outputs)
    assert len(outputs[0][0]) > 1e6
    assert first == second

    (library,) = cache.glob("*.so")
    library.write_bytes(b"")
    again = subprocess.run([sys.executable, "-c", USE, "2"], capture_output=True, check=True)
    assert hashlib.sha256(again.stdout).hexdigest() == first  # a damaged file is compiled anew


def test_another_compiler_processor_or_source_has_a_library_of_its_own(
    cache: Path, compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = custom_ops._library(compiler)
    assert library == custom_ops._library(compiler)
    assert library.parent == cache
    monkeypatch.setattr(custom_ops, "_run", lambda command: "#define __AVX9000__ 1")
    assert custom_ops._library(compiler) != library
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "operations.cc"
    source.write_text(custom_ops.SOURCE.read_text() + "\n")
    monkeypatch.setattr(custom_ops, "SOURCE", source)
    assert custom_ops._library(compiler) != library


def test_what_a_compiler_says_is_passed_on_and_nothing_is_left(
    cache: Path, compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "operations.cc"
    source.write_text("int main() { return nothing; }")
    monkeypatch.setattr(custom_ops, "SOURCE", source)
    with pytest.raises(custom_ops.UnavailableError, match=r"c\+\+: .*error: .*nothing"):
        custom_ops._compile(compiler, cache / "operations.so")
    assert [file for file in cache.iterdir() if file.suffix != ".lock"] == []


def test_the_compiler_that_cxx_names_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "my-c++"
    mine.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(mine))
    assert custom_ops._compiler() == str(mine)


def test_without_a_compiler_there_are_no_custom_operations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(custom_ops.UnavailableError, match=r"no C\+\+ compiler"):
        custom_ops._compiler()


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise custom_ops.UnavailableError("there is no C++ compiler (c++)")

    monkeypatch.setattr(custom_ops, "load", load)


@pytest.mark.usefixtures("unavailable")
def test_where_there_are_none_a_run_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        machine = hardware.setup(HardwareConfig(device="cpu"), 0)
    assert machine.custom_ops is None
    assert machine.description["custom_ops"] is False
    assert "no C++ compiler" in caplog.text


@pytest.mark.usefixtures("unavailable")
def test_where_there_are_none_asking_for_them_is_refused_and_refusing_them_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(UserError, match=r"hardware\.custom_ops=true: there is no C\+\+ compiler"):
        hardware.setup(HardwareConfig(device="cpu", custom_ops=True), 0)
    hardware.setup(HardwareConfig(device="cpu", custom_ops=False), 0)
    assert not caplog.records


@pytest.mark.parametrize("config", [{"xla": True}, {"precision": "mixed_bfloat16"}])
def test_xla_and_half_precision_go_without(config: dict[str, Any]) -> None:
    try:
        assert hardware.setup(HardwareConfig(device="cpu", **config), 0).custom_ops is None
        with pytest.raises(UserError, match=r"hardware\.custom_ops=true: they are for float32 on a CPU, without XLA"):
            hardware.setup(HardwareConfig(device="cpu", custom_ops=True, **config), 0)
    finally:
        hardware.setup(HardwareConfig(device="cpu"), 0)
