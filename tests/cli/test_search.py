"""What a search (`hydra/sweeper=optuna`) promises."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_launchers import wait_until_two_run
from tests.cli.test_resume import start
from tests.cli.test_sweep import SMALL, rows, states
from tests.conftest import command

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra 'sweep'")


def trials(sweep: Path) -> list[tuple[str, dict[str, object]]]:
    """State and parameters of the trials of the study in a sweep's directory."""
    optuna = pytest.importorskip("optuna", reason="needs the extra 'sweep'")
    study = optuna.load_study(study_name="vae-run", storage=f"sqlite:///{sweep}/study.db")
    return [(trial.state.name, trial.params) for trial in study.trials]


def search(folder: Path, number: int, *options: str, **loss: str) -> subprocess.CompletedProcess[str]:
    """Search with so many trials in all, in `folder`/sweep."""
    own = [f"{'' if name == 'loss' else 'loss.'}{name}={value}" for name, value in loss.items()]
    return command(
        "vae-run", *options, "-m", "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={number}", *SMALL,
        *own, "sweep.dir=sweep", cwd=folder, PYTHONPATH=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize("numbers", [(1, 2), pytest.param((3, 5, 5), marks=pytest.mark.slow)])
def test_a_search_goes_on_up_to_its_number_of_trials(numbers: tuple[int, ...], tmp_path: Path) -> None:
    for number in numbers:
        result = search(tmp_path, number)
        assert result.returncode == 0, result.stderr
        found = trials(tmp_path / "sweep")
        assert [state for state, _ in found] == ["COMPLETE"] * number
    assert len({json.dumps(params, sort_keys=True) for _, params in found}) == numbers[-1]
    assert states(tmp_path / "sweep") == {"finished": numbers[-1]}
    best = min(float(row["test/loss"]) for row in rows(tmp_path / "sweep"))
    assert f"Best value: {best:.6g}"[:-2] in result.stdout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be at least 1"),
        ("hydra.sweeper.n_trials=-1", "hydra.sweeper.n_trials=-1: must be at least 1"),
        ("sweep.metric=test/los", "sweep.metric=test/los: there is no such metric. Did you mean 'test/loss'? Choose"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_and_leaves_nothing(
    override: str, message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal("vae-run", "-m", "hydra/sweeper=optuna", *SMALL, override, "sweep.dir=sweep", cwd=tmp_path)
    assert said.startswith(f"vae-run: {message}")
    assert not list(tmp_path.iterdir())


def test_so_is_one_of_which_the_process_of_its_runs_finds_that_it_makes_none(tmp_path: Path) -> None:
    result = command(
        "vae-run", "-m", "hydra/sweeper=optuna", *SMALL, "loss.kl_weigt=3", "sweep.dir=sweep", cwd=tmp_path
    )
    assert result.returncode == 2
    assert result.stderr.startswith("vae-run: there is no key 'loss.kl_weigt'. Did you mean 'loss.kl_weight'?")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failed_run_is_a_failed_trial_and_not_the_end_of_the_search(mine: Path) -> None:
    own = ("--config-dir", "conf")
    assert search(mine, 2, *own, loss="mine", behaviour="fails").returncode == 2
    assert [state for state, _ in trials(mine / "sweep")] == ["FAIL", "FAIL"]

    (mine / "sweep" / "study.db").unlink()
    result = search(mine, 6, *own, loss="mine", behaviour="a,fails")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    found = trials(mine / "sweep")
    assert [state == "FAIL" for state, _ in found] == [params["loss.behaviour"] == "fails" for _, params in found]
    assert {state for state, _ in found} == {"FAIL", "COMPLETE"}


@pytest.mark.slow
def test_a_search_whose_process_is_killed_repeats_the_trial_it_was_in(tmp_path: Path) -> None:
    arguments = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", *SMALL, "epochs=40", "sweep.dir=sweep")
    process = start(*arguments, cwd=tmp_path)
    wait_until_two_run(process, tmp_path / "sweep")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert states(tmp_path / "sweep") == {"finished": 3}
    assert [state for state, _ in trials(tmp_path / "sweep")].count("COMPLETE") == 3


@pytest.mark.slow
def test_a_trial_that_does_not_fit_is_left_out_and_neither_a_run_nor_a_failure_of_the_command(tmp_path: Path) -> None:
    arguments = ("posterior=choice(point,gaussian)", "sweep.unfit=skip", "hydra.sweeper.n_trials=5")
    result = command("vae-run", "-m", "hydra/sweeper=optuna", *SMALL, *arguments, "sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = [(state, params["posterior"]) for state, params in trials(tmp_path / "sweep")]
    assert set(found) == {("FAIL", "point"), ("COMPLETE", "gaussian")}
    finished = [state for state, _ in found].count("COMPLETE")
    assert states(tmp_path / "sweep") == {"finished": finished}
    assert result.stdout.count("Left out: loss=vae needs a posterior with a density") == 5 - finished
    assert len([path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]) == finished
