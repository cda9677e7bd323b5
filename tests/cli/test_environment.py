"""What is set for other programs, and what native code says before it ends the process, through the commands."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import command
from vae_runner.runtime import environment

SMALL = ("dataset=digits", "dataset.limit=50", "batch_size=16", "epochs=1")
WORDS = "This processor lacks what TensorFlow needs."
SHOWN = f"The process ended while TensorFlow was imported:\n{WORDS}\n"
DEATHS = {
    "abort": "os.abort()",
    "exit": "ctypes.CDLL(None).exit(1)",
    "illegal instruction": "os.kill(os.getpid(), signal.SIGILL)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
}
STAND_IN = """
import ctypes, importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "tensorflow.python.pywrap_tensorflow":
            os.write(2, b"{words}\\n")
            {death}
sys.meta_path.insert(0, Finder())
"""
STATUSES = {
    "abort": -signal.SIGABRT,
    "exit": 1,
    "illegal instruction": -signal.SIGILL,
    "killed": -signal.SIGKILL,
}


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """Makes a folder for PYTHONPATH, with which the import of TensorFlow ends the process."""

    def make(death: str) -> str:
        folder = tmp_path / "stand_in"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(STAND_IN.format(words=WORDS, death=DEATHS[death]))
        return str(folder)

    return make


@pytest.mark.parametrize("death", DEATHS)
def test_what_native_code_says_before_it_ends_the_process_is_shown(
    death: str, stand_in: Callable[[str], str], tmp_path: Path
) -> None:
    result = command("vae-run", *SMALL, cwd=tmp_path, PYTHONPATH=stand_in(death))
    assert result.stderr == SHOWN
    assert result.returncode == STATUSES[death]


@pytest.mark.parametrize("name", ["vae-sample", "vae-compare"])
def test_the_other_commands_show_it_too(
    name: str, finished_run: Path, stand_in: Callable[[str], str], tmp_path: Path
) -> None:
    result = command(name, finished_run, cwd=tmp_path, PYTHONPATH=stand_in("abort"))
    assert result.stderr == SHOWN
    assert result.returncode == -signal.SIGABRT


def test_a_flag_that_tensorflow_does_not_know_is_named(tmp_path: Path) -> None:
    result = command("vae-run", *SMALL, cwd=tmp_path, TF_XLA_FLAGS="--no_such_flag=1")
    assert result.returncode in (1, -signal.SIGABRT)  # as its release of TensorFlow ends the process
    assert "Unknown flag in TF_XLA_FLAGS: --no_such_flag=1" in result.stderr


@pytest.mark.parametrize(
    ("death", "launcher", "how"),
    [
        ("abort", "basic", "of signal SIGABRT"),
        ("exit", "basic", "with status 1"),
        pytest.param("abort", "joblib", "with a process of its launcher", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_ends_with_the_last_words_of_its_process_and_leaves_nothing(
    death: str, launcher: str, how: str, stand_in: Callable[[str], str], tmp_path: Path
) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    result = command(
        *("vae-run", "-m", *SMALL, "latent=2,3", f"hydra/launcher={launcher}", "sweep.dir=sweep"),
        cwd=tmp_path,
        PYTHONPATH=stand_in(death),
    )
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        f"vae-run: the process that launches the runs died {how} while TensorFlow was imported: {WORDS}"
    )
    assert SHOWN in result.stderr
    assert not (tmp_path / "sweep").exists()


# --- settings of other programs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with two runs, `plain` and `set`, and the settings of other programs that the second was made with."""
    folder = tmp_path_factory.mktemp("environment")
    plain = command("vae-run", *SMALL, "hydra.run.dir=plain", cwd=folder)
    assert plain.returncode == 0, plain.stderr
    (folder / "keras").mkdir()
    (folder / "keras" / "keras.json").write_text('{"floatx": "float99", "nnx_enabled": true, "backend": "jax"}')
    (folder / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: black\nsavefig.dpi: 20\n")
    settings = {
        "MPLBACKEND": "module://nowhere.backend_inline",
        "TF_USE_LEGACY_KERAS": "1",
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(folder / "keras"),
        "KERAS_MAX_EPOCHS": "many",
        "KERAS_NNX_ENABLED": "1",
        "TF_NUM_INTRAOP_THREADS": "0",
        "TF_NUM_INTEROP_THREADS": "",
        "TF_DETERMINISTIC_OPS": "1",
        "TF_FUNCTION_JIT_COMPILE_DEFAULT": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "nonsense",
        "TF_CPP_MIN_LOG_LEVEL": "",
        "TF_ENABLE_ONEDNN_OPTS": "",
        "VAE_RUNNER_DATA": "",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "0",
        "COLUMNS": "0",
    }
    result = command("vae-run", *SMALL, "hydra.run.dir=set", cwd=folder, **settings)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Run directory: set" in result.stdout
    return folder, settings


def test_settings_of_other_programs_change_nothing_of_a_run(runs: tuple[Path, dict[str, str]]) -> None:
    folder, _ = runs
    pictures = sorted(file.relative_to(folder / "plain") for file in folder.glob("plain/figures/**/*.png"))
    assert pictures
    for name in pictures:
        if "loss" not in name.name:
            assert (folder / "set" / name).read_bytes() == (folder / "plain" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), [("vae-sample", ["-n", "4"]), ("vae-compare", [])])
def test_nor_do_they_keep_the_other_commands_from_working(
    name: str, more: list[str], runs: tuple[Path, dict[str, str]]
) -> None:
    folder, settings = runs
    result = command(name, "plain", *more, "--out", f"{name}.png", cwd=folder, **settings)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.parametrize("sweep", [[], ["-m", "latent=2,3"]], ids=["run", "sweep"])
@pytest.mark.parametrize("name", environment.THREADS)
@pytest.mark.parametrize("value", ["abc", "-3", "1.5", "99999", "²"])
def test_numbers_of_threads_that_make_no_sense_are_refused_by_name(
    name: str,
    value: str,
    sweep: list[str],
    tmp_path: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    assert f"{name}={value}: must be a whole number from 0" in refusal("vae-run", *sweep, *SMALL, cwd=tmp_path)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("given", "expected"), [("0", os.cpu_count()), ("3", 3), (None, os.cpu_count())])
def test_no_threads_stands_for_all_cores(given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is None:
        monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    else:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", given)
    assert environment.threads() == expected
