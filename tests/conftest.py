"""What several rooms of the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.forks import can_be_forked, run_in_fork
from tests.skips import pytest_addoption, pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (hooks)
from vae_runner.cli import commands
from vae_runner.datasets.dataset import Dataset, Split

REPOSITORY = Path(__file__).parents[1]
COMMANDS = Path(sys.executable).parent

# How much chance is given: HYPOTHESIS_PROFILE=ci makes twice as many examples, the same ones every time, so that a
# change is judged by what it changes: more of the same cost CI minutes, and find nothing more from one change to the
# next. =search looks for others, five times as many. VAE_RUNNER_TEST_ROUNDS repeats them and the kills so many times
# over (docs/reliability.md).
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
ROUNDS = int(os.environ.get("VAE_RUNNER_TEST_ROUNDS", "1"))

# The files that take longest, first those in which nothing has to end in time: in CI, tests that start several
# processes run beside them.
LONGEST = (
    *("test_documented_commands.py", "test_axis_values.py", "test_distributed.py", "test_real_data.py"),
    *("test_combinations.py", "test_sweep.py", "test_resume.py"),
    *("test_launchers.py", "test_environment.py", "test_hostile.py", "test_multi_worker.py"),
)


def examples(count: int) -> int:
    """How many examples a test of Hypothesis makes of which a search makes `count`."""
    return ROUNDS * max(count * settings().max_examples // 100, 1)


def mostly_slow(values: Iterable[object], quick: int = 1) -> list[object]:
    """Return the values of a parameter, with all but the first `quick` ones marked slow."""
    return [value if n < quick else pytest.param(value, marks=pytest.mark.slow) for n, value in enumerate(values)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: a process that took one last would keep the others waiting."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run the tests of a single file, which one process would have to itself, in this process."""
    files = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(files) == 1 and files.pop().endswith(".py") else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skipped test."""
    folder = Path(os.environ.get("VAE_RUNNER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}: set VAE_RUNNER_TEST_DATA")
    return folder


def command(name: str, *arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """An installed command, run as a user would, in `cwd`, with its output."""
    words = [str(COMMANDS / name), *map(str, arguments)]
    environment = {**os.environ, "VAE_RUNNER_DATA": str(cwd / "data"), **variables}
    if can_be_forked(words, environment):
        return run_in_fork(words, cwd, environment, timeout=600)
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of `vae-run` on the digits, with all figures."""
    folder = tmp_path_factory.mktemp("finished")
    result = command("vae-run", "epochs=3", "figures.every=2", "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "run" / "console.txt").write_text(result.stdout)
    return folder / "run"


def random_dataset() -> Dataset:
    """Random grey images of 8×8, with three classes."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        return Split(rng.integers(0, 256, (count, 8, 8, 1), np.uint8), rng.integers(0, 3, count))

    return Dataset(split(50), split(20), label_names=("a", "b", "c"))


small_dataset = pytest.fixture(random_dataset)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a command in this process, where TensorFlow is imported already."""

    def run(name: str, *arguments: object, cwd: Path) -> None:
        # Hydra's logging set-up closes every handler there is, and absl's closes with it the file pytest captures into.
        monkeypatch.setattr("logging.config._clearExistingHandlers", lambda: None)
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        getattr(commands, name.removeprefix("vae-"))()

    return run


@pytest.fixture
def refusal(in_process: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in this process, which must refuse: one line on standard error, which it returns, and status 2."""

    def run(name: str, *arguments: object, cwd: Path) -> str:
        with pytest.raises(SystemExit) as end:
            in_process(name, *arguments, cwd=cwd)
        said = capsys.readouterr().err
        assert end.value.code == 2, said
        assert said.startswith(f"{name}: ")
        assert said.count("\n") == 1, said
        return said

    return run
