"""That the custom operations are compiled once, where they can be, and else done without."""

import gc
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.acceleration import comparing
from tests.conftest import examples
from vae_runner.acceleration import operations
from vae_runner.acceleration.custom_ops import compiling, loading
from vae_runner.acceleration.custom_ops.compiling import UnavailableError
from vae_runner.errors import UserError
from vae_runner.runtime.schema import HardwareConfig

USE = """
import logging, sys
import numpy as np, tensorflow as tf
from vae_runner.acceleration.custom_ops import loading
logging.basicConfig(level=logging.INFO, format="%(message)s")
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
ops = loading.load()
random = np.random.default_rng(0)
x, y, kernel = (random.normal(size=shape).astype("f") for shape in [(9, 40, 50, 48), (9, 40, 50, 1), (3, 3, 1, 48)])
gamma, beta = np.ones(48, "f"), np.zeros(48, "f")
bias = np.ones(1, 'f')
made = ops.vae_runner_image_head(x=x, gamma=gamma, beta=beta, kernel=kernel, bias=bias, epsilon=1e-3, slope=0.2)
results = [*made, *ops.vae_runner_image_head_grad(
    dimages=y, x=x, gamma=gamma, beta=beta, kernel=kernel, mean=made[1], variance=made[2], epsilon=1e-3, slope=0.2
)]
maps = ops.vae_runner_convolved_grey(images=y, kernel=kernel, bias=beta, stride=1, slope=0.2)
results += [maps, *ops.vae_runner_convolved_grey_grad(
    dmaps=x, images=y, kernel=kernel, bias=beta, stride=1, slope=0.2
)]
square = kernel.repeat(48, 2)
results += [
    ops.vae_runner_conv2d(images=x, kernel=square, stride=1),
    ops.vae_runner_conv2d_transpose(maps=maps, kernel=square, stride=2, height=79, width=100),
    ops.vae_runner_conv2d_kernel_grad(images=x, dmaps=maps, stride=1),
    ops.vae_runner_conv2d_kernel_grad(images=x, dmaps=x[:, ::2, ::2], stride=2),
]
results += [ops.vae_runner_patch_sums(images=y, pivot=0.0, stride=1)]
sys.stdout.buffer.write(b"".join(np.asarray(result).tobytes() for result in results))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vae-runner" / "custom_ops"


compiler = pytest.fixture(comparing.compiler)


@pytest.mark.usefixtures("ops")
def test_their_bits_do_not_depend_on_the_number_of_threads() -> None:
    one, two = (
        subprocess.run([sys.executable, "-c", USE, threads], capture_output=True, check=True).stdout
        for threads in ("1", "2")
    )
    assert len(one) > 1e6
    assert one == two


@pytest.mark.slow
def test_processes_at_once_compile_once_and_compute_the_same_bits_with_any_number_of_threads(
    cache: Path, compiler: list[str]
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
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".sha256", ".so"]
    first, second = (hashlib.sha256(bits).hexdigest() for bits, _ in outputs)
    assert len(outputs[0][0]) > 1e6
    assert first == second


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the options are of compilers for x86")
@pytest.mark.parametrize("without", ["-mno-avx512f", "-mno-avx"])
@pytest.mark.usefixtures("cache")
def test_they_compute_the_same_in_narrower_registers(
    without: str, compiler: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed() -> np.ndarray:
        bits = subprocess.run([sys.executable, "-c", USE, "2"], capture_output=True, check=True).stdout
        return np.frombuffer(bits, "f")

    native = computed()
    monkeypatch.setenv("CXX", shlex.join([*compiler, without]))
    np.testing.assert_allclose(computed(), native, rtol=1e-4, atol=1e-3)


def test_another_compiler_processor_or_source_has_a_library_of_its_own(
    cache: Path, compiler: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = compiling._library(compiler, compiling._tensorflow())
    assert library == compiling._library(compiler, compiling._tensorflow())
    assert library.parent == cache
    monkeypatch.setattr(compiling, "_run", lambda command: "#define __AVX9000__ 1")
    assert compiling._library(compiler, compiling._tensorflow()) != library
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    changed = shutil.copytree(compiling.FOLDER, tmp_path / "changed")
    with (changed / "lanes.h").open("a") as header:
        header.write("\n")
    monkeypatch.setattr(compiling, "FOLDER", changed)
    assert compiling._library(compiler, compiling._tensorflow()) != library


def test_what_a_compiler_says_is_passed_on_and_nothing_is_left(
    cache: Path, compiler: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "errors.h").write_text("inline int f() {\n  return nothing;\n}")
    (tmp_path / "operations.cc").write_text('#include "errors.h"')
    monkeypatch.setattr(compiling, "FOLDER", tmp_path)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    (cache / "operations_of_one_that_was_killed").mkdir(parents=True)
    with pytest.raises(UnavailableError, match=re.escape(compiler[0]) + r": .*errors\.h.*error: .*nothing"):
        compiling._compile(compiler, compiling._tensorflow(), cache / "operations.so")
    assert [file for file in cache.iterdir() if file.suffix != ".lock"] == []


def test_cxx_says_which_compiler_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"'{sys.executable}' -pipe")
    assert compiling._compiler() == [sys.executable, "-pipe"]
    for said, problem in [("g+++", "there is no such compiler"), ('g++ "', "No closing quotation")]:
        monkeypatch.setenv("CXX", said)
        with pytest.raises(UnavailableError, match=re.escape(f"CXX={said}: {problem}")):
            compiling._compiler()


def test_a_compiler_that_makes_nothing_or_does_not_end_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError, match="true made nothing"):
        compiling._compile(["true"], compiling._tensorflow(), cache / "operations.so")
    monkeypatch.setattr(compiling, "MOST_SECONDS", 0.5)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 60 & echo $! > $0.pid; wait")
    slow.chmod(0o755)
    with pytest.raises(UnavailableError, match=r"slow took more than 0\.5 s"):
        compiling._run([str(slow)])
    child = int(Path(f"{slow}.pid").read_text())
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("its process goes on")


@pytest.fixture
def fresh() -> Iterator[None]:
    """As if this process had not asked for them yet."""
    compiling._begun.cache_clear()
    yield
    compiling._begun.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_that_there_are_none_is_found_out_once_and_keeps_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compiler() -> list[str]:
        asked.append(1)
        raise UnavailableError("none")

    class Model:
        pass

    def run() -> weakref.ref[Model]:
        model = Model()
        with suppress(UnavailableError):
            compiling.library()
        return weakref.ref(model)

    monkeypatch.setattr(compiling, "_compiler", compiler)
    models = [run() for _ in range(3)]
    gc.collect()
    assert [model() for model in models] == [None] * 3
    assert len(asked) == 1


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("/dev/null", "cannot be kept in /dev/null/vae-runner/custom_ops .Not a directory"),
        (None, "home"),
        ("/proc", "cannot be kept in /proc/vae-runner"),
    ],
)
def test_where_they_cannot_be_kept_there_are_none(
    where: str | None, what: str, compiler: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if where is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", where)
    with pytest.raises(UnavailableError, match=what):
        compiling.library()


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that makes no library, as for a folder that forbids execution; the file has a line for each time."""
    compiler, lines = tmp_path / "compiler", tmp_path / "compiled"
    compiler.write_text(f"""#!/bin/sh
for word; do if [ "$before" = -o ]; then echo nothing >"$word"; echo once >>{lines}; fi; before=$word; done
""")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(compiling, "_compiled", set())
    return lines


def test_a_library_that_is_cut_short_is_compiled_again(cache: Path, compiled: Path) -> None:
    library = compiling._made()
    assert compiling._made() == library
    assert compiled.read_text() == "once\n"
    os.truncate(library, library.stat().st_size // 2)  # to load a real one would be a bus error
    assert compiling._made() == library
    assert library.read_text() == "nothing\n"
    assert compiled.read_text() == "once\nonce\n"


@pytest.mark.usefixtures("fresh")
def test_what_cannot_be_loaded_is_compiled_once_and_then_done_without(
    cache: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = []
    for _ in range(3):  # processes
        compiling._begun.cache_clear()
        monkeypatch.setattr(compiling, "_compiled", set())
        with pytest.raises(UnavailableError) as unavailable:
            loading.load.__wrapped__()
        reasons.append(str(unavailable.value))
    (note,) = cache.glob("*.unloadable")
    assert compiled.read_text() == "once\n"
    assert reasons[1:] == [f"{reasons[0]} (delete {note} to have it tried again)"] * 2
    assert "file too short" in reasons[0] or "invalid ELF header" in reasons[0]


def test_without_a_compiler_there_are_no_custom_operations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnavailableError, match=r"no C\+\+ compiler"):
        compiling._compiler()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, True),
        ({"device": "cpu", "custom_ops": True, "xla": False}, True),
        ({"custom_ops": False}, False),
        ({"fuse": False}, False),
        ({"device": "gpu"}, False),
        ({"xla": True}, False),
        ({"precision": "mixed_float16"}, False),
    ],
)
def test_compiling_begins_early_for_runs_that_can_use_it_alone(
    config: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    monkeypatch.setattr(compiling, "_begun", lambda: begun.append(1))
    operations.begin(HardwareConfig(**config))
    assert begun == [1] * expected


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise UnavailableError("there is no C++ compiler (c++)")

    monkeypatch.setattr(loading, "load", load)
    operations._warn.cache_clear()


@pytest.mark.usefixtures("unavailable")
def test_where_there_are_none_a_run_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = [operations.load_for(HardwareConfig(device="cpu")) for _ in range(2)]
    assert found == [None, None]
    assert caplog.text.count("no C++ compiler") == 1


@pytest.mark.usefixtures("unavailable")
def test_where_there_are_none_asking_for_them_is_refused_and_refusing_them_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(UserError, match=r"hardware\.custom_ops=true: there is no C\+\+ compiler"):
        operations.load_for(HardwareConfig(device="cpu", custom_ops=True))
    assert operations.load_for(HardwareConfig(device="cpu", custom_ops=False)) is None
    assert not caplog.records


@pytest.mark.parametrize("config", [{"xla": True}, {"precision": "mixed_bfloat16"}, {"fuse": False}])
def test_xla_half_precision_and_networks_as_they_are_written_go_without(config: dict[str, Any]) -> None:
    assert operations.load_for(HardwareConfig(device="cpu", **config)) is None
    with pytest.raises(UserError, match=r"custom_ops=true: custom operations are for fused layers in float32 on a CPU"):
        operations.load_for(HardwareConfig(device="cpu", custom_ops=True, **config))


@pytest.fixture(scope="module")
def ops() -> Any:
    return comparing.load_custom_ops()


@settings(deadline=None, max_examples=examples(40))
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40)),
    groups=st.integers(1, 7),
    center=st.sampled_from([0.0, 100.0, -3e3]),
    spread=st.sampled_from([0.0, 1e-2, 1.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
    corner=st.sampled_from([None, 0.0, 50.0]),  # the first pixel, which the moments begin with
)
def test_the_custom_normalisation_is_that_of_the_formula_in_double_precision(
    ops: Any, shape: tuple[int, int, int], groups: int, center: float, spread: float, seed: int, corner: float | None
) -> None:
    rng = np.random.default_rng(seed)
    channels = 16 * groups
    x = rng.normal(center, spread, (*shape, channels)).astype(np.float32)
    if corner is not None:
        x[0, 0, 0] = corner
    gamma, beta = rng.uniform(0.5, 1, channels), 6 * rng.choice([-1, 1], channels)  # far from LeakyReLU's bend
    gamma, beta = gamma.astype(np.float32), beta.astype(np.float32)
    slope = 0.2 if corner is None else 1.0  # or the corner could be at the bend
    y, mean, variance = ops.vae_runner_normalized_leaky_relu(x=x, gamma=gamma, beta=beta, epsilon=1e-3, slope=slope)

    exact = x.astype(np.float64)
    expected_mean, expected_variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    normalized = (exact - expected_mean) / np.sqrt(expected_variance + 1e-3) * gamma + beta
    rounding = 1e-6 * abs(center)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-5 * np.sqrt(expected_variance.max()))
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-4, atol=rounding**2)
    expected = np.where(normalized > 0, normalized, slope * normalized)
    tolerance = 1e-5 + rounding / np.sqrt(expected_variance.min() + 1e-3) + 5e-5 * np.abs(normalized - beta)
    assert np.all(np.abs(y - expected) <= tolerance)


@settings(max_examples=examples(40))
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from((16, 32, 48, 80)),
    filters=st.sampled_from((16, 48, 64, 112)),
    stride=st.sampled_from((1, 2)),
    seed=st.integers(0, 99),
)
@example(size=(2, 3, 300), channels=16, filters=16, stride=1, seed=0)  # a row of which is more than a block
@example(size=(130, 1, 1), channels=16, filters=16, stride=2, seed=0)  # several blocks of many images
@example(size=(1, 5, 5), channels=576, filters=576, stride=1, seed=0)  # a kernel of which there cannot be many sums
def test_custom_convolutions_are_those_of_double_precision_for_any_size(
    size: tuple[int, int, int], channels: int, filters: int, stride: int, seed: int, ops: Any
) -> None:
    random = np.random.default_rng(seed)
    images, kernel = random.normal(size=(*size, channels)), random.normal(size=(3, 3, channels, filters))
    maps = tf.nn.conv2d(images, kernel, stride, "SAME")
    dmaps = random.normal(size=maps.shape)
    window = {"strides": [1, stride, stride, 1], "padding": "SAME"}
    dimages = tf.raw_ops.Conv2DBackpropInput(input_sizes=images.shape, filter=kernel, out_backprop=dmaps, **window)
    dkernel = tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel.shape, out_backprop=dmaps, **window)
    height, width = size[1:]
    images, kernel, dmaps = (value.astype("f") for value in (images, kernel, dmaps))
    ours = (
        ops.vae_runner_conv2d(images=images, kernel=kernel, stride=stride),
        ops.vae_runner_conv2d_transpose(maps=dmaps, kernel=kernel, stride=stride, height=height, width=width),
        ops.vae_runner_conv2d_kernel_grad(images=images, dmaps=dmaps, stride=stride),
    )
    for value, exact in zip(ours, (maps, dimages, dkernel), strict=True):
        np.testing.assert_allclose(value, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_custom_operations_refuse_channels_that_are_no_whole_groups(ops: Any) -> None:
    x, weights = tf.zeros([2, 3, 4, 24]), tf.zeros([24])
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 16"):
        ops.vae_runner_normalized_leaky_relu(x=x, gamma=weights, beta=weights, epsilon=1e-3, slope=0.2)
