"""What several rooms of the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vae_runner.cli import commands
from vae_runner.datasets.dataset import Dataset, Split

REPOSITORY = Path(__file__).parents[1]
COMMANDS = Path(sys.executable).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest comes first: a process that took it last would keep the others waiting."""
    items.sort(key=lambda item: item.path.name != "test_distributed.py")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skipped test."""
    folder = Path(os.environ.get("VAE_RUNNER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}: set VAE_RUNNER_TEST_DATA")
    return folder


def command(name: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """An installed command, run as a user would, in `cwd`, with its output."""
    return subprocess.run(
        [COMMANDS / name, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "VAE_RUNNER_DATA": str(cwd / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of `vae-run` on the digits, with all figures."""
    folder = tmp_path_factory.mktemp("finished")
    result = command("vae-run", "epochs=3", "figures.every=2", "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "run" / "console.txt").write_text(result.stdout)
    return folder / "run"


@pytest.fixture
def small_dataset() -> Dataset:
    """Random grey images of 8×8, with three classes."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        return Split(rng.integers(0, 256, (count, 8, 8, 1), np.uint8), rng.integers(0, 3, count))

    return Dataset(split(50), split(20), label_names=("a", "b", "c"))


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in this process, which must refuse: one line on standard error, which it returns, and status 2."""

    def run(name: str, *arguments: object, cwd: Path) -> str:
        # Hydra's logging set-up closes every handler there is, and absl's closes with it the file pytest captures into.
        monkeypatch.setattr("logging.config._clearExistingHandlers", lambda: None)
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            getattr(commands, name.removeprefix("vae-"))()
        said = capsys.readouterr().err
        assert end.value.code == 2, said
        assert said.startswith(f"{name}: ")
        assert said.count("\n") == 1, said
        return said

    return run
