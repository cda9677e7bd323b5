"""Every kind of command on real images: Fashion-MNIST, and the cartoons, a folder of pictures; each cut short."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_search import trials
from tests.cli.test_sweep import rows, states
from tests.conftest import command

pytestmark = pytest.mark.slow  # the tutorial of test_documented_commands.py is of real images, too

SHORT = ("epochs=1", "batch_size=16", "model.filters=4", "figures=none")
FOLDERS = {"fashion": "fashion-mnist", "cartoon": "cartoonset"}
SIZE = {"fashion": 28, "cartoon": 16}


@dataclass(frozen=True)
class Case:
    """A dataset, and the folder that all commands on it are given in."""

    name: str
    folder: Path

    def vae_run(self, *arguments: str) -> str:
        """Run `vae-run -m` on the dataset, which must go well; what it said."""
        given = ("-m", f"dataset={self.name}", f"dataset.root={FOLDERS[self.name]}", *SHORT)
        short = "dataset.limit=24" if self.name == "fashion" else f"dataset.image_size={SIZE[self.name]}"
        result = command("vae-run", *given, short, *arguments, cwd=self.folder)
        assert result.returncode == 0, result.stderr
        assert "does not tell" not in result.stdout
        return result.stdout

    @property
    def runs(self) -> list[Path]:
        """Those of its sweep."""
        return sorted(file.parent for file in self.folder.glob("sweep/*/run.json"))


@pytest.fixture(scope="module", params=list(FOLDERS))
def case(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A dataset with a finished sweep of two in sweep/."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("fashion-mnist", "cartoonset"):
        (folder / name).symlink_to(real_data / name)
    case = Case(request.param, folder)
    # A metric that is named by another key of the command, which is no part of the run's own configuration.
    case.vae_run("latent=2,3", "sweep.dir=sweep", "early_stopping.metric=${sweep.metric}")
    return case


def test_a_sweep_finishes_with_the_paths_of_its_configuration_written_out(case: Case) -> None:
    assert states(case.folder / "sweep") == {"finished": 2}
    for run in case.runs:
        config = (run / "config.yaml").read_text()
        assert "${" not in config
        assert f"data_dir: {case.folder / 'data'}\n" in config
        assert "metric: test/loss\n" in config


def test_the_same_command_does_nothing_again_and_new_values_join(case: Case) -> None:
    said = case.vae_run("latent=2,3,4", "sweep.dir=sweep", "early_stopping.metric=${sweep.metric}")
    assert said.count("is finished already") == 2
    assert states(case.folder / "sweep") == {"finished": 3}
    assert [row["latent"] for row in rows(case.folder / "sweep")] == ["2", "3", "4"]


def test_a_run_of_a_sweep_goes_on(case: Case, in_process: Callable[..., None]) -> None:
    copied = case.folder / "copied"
    shutil.copytree(case.runs[0], copied)
    in_process("vae-run", "resume=copied", "epochs=2", "figures=none", cwd=case.folder)
    assert json.loads((copied / "run.json").read_text())["epoch"] == 2


def test_samples_are_drawn_from_a_run_of_a_sweep(case: Case, in_process: Callable[..., None]) -> None:
    in_process("vae-sample", case.runs[0], "-n", 2, "--out", "samples.npy", cwd=case.folder)
    size = SIZE[case.name]
    assert np.load(case.folder / "samples.npy").shape == (2, size, size, 1 if case.name == "fashion" else 3)


def test_the_runs_of_a_sweep_are_compared(case: Case, in_process: Callable[..., None]) -> None:
    in_process("vae-compare", *case.runs[:2], "--out", "both.png", cwd=case.folder)
    with (case.folder / "both.csv").open(newline="") as file:
        assert [(row["dataset"], row["latent"]) for row in csv.DictReader(file)] == [(case.name, "2"), (case.name, "3")]


def test_a_search_in_a_launchers_processes_has_the_data(case: Case) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    launcher = "submitit_local" if case.name == "fashion" else "joblib"
    search = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    case.vae_run(*search, f"hydra/launcher={launcher}", "sweep.dir=search")
    assert states(case.folder / "search") == {"finished": 2}
    assert [state for state, _ in trials(case.folder / "search")] == ["COMPLETE"] * 2
