"""What a search (`hydra/sweeper=optuna`) promises."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_launchers import wait_until_two_run
from tests.cli.test_resume import start
from tests.cli.test_sweep import SMALL, rows, states
from tests.conftest import REPOSITORY, command
from tests.test_documented_commands import python_of

optuna = pytest.importorskip("optuna", reason="needs the extra 'sweep'")

from optuna.distributions import CategoricalDistribution  # noqa: E402
from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import create_trial  # noqa: E402


def storage(sweep: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(f"{sweep}/study.journal"))


def trials(sweep: Path) -> list[tuple[str, dict[str, object]]]:
    """State and parameters of the trials of the study in a sweep's directory, as Optuna alone reads it."""
    study = optuna.load_study(study_name="vae-run", storage=storage(sweep))
    return [(trial.state.name, trial.params) for trial in study.trials]


def search(folder: Path, number: int, *options: str, **loss: str) -> subprocess.CompletedProcess[str]:
    """Search with so many trials in all, in `folder`/sweep."""
    own = [f"{'' if name == 'loss' else 'loss.'}{name}={value}" for name, value in loss.items()]
    return command(
        "vae-run", *options, "-m", "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={number}", *SMALL,
        *own, "sweep.dir=sweep", cwd=folder, PYTHONPATH=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize("numbers", [(1, 2), pytest.param((3, 5, 5), marks=pytest.mark.slow)])
def test_a_search_goes_on_up_to_its_number_of_trials(
    numbers: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in numbers:
        result = search(tmp_path, number)
        assert result.returncode == 0, result.stderr
        found = trials(tmp_path / "sweep")
        assert [state for state, _ in found] == ["COMPLETE"] * number
    assert len({json.dumps(params, sort_keys=True) for _, params in found}) == numbers[-1]
    assert states(tmp_path / "sweep") == {"finished": numbers[-1]}
    assert "sweep.metric=test/loss: the test images decide" in result.stdout
    best = min(float(row["test/loss"]) for row in rows(tmp_path / "sweep"))
    assert f"The best of {numbers[-1]} runs: test/loss={best:.6g} with " in result.stdout
    documented = python_of("Search", REPOSITORY / "docs" / "sweeps.md").replace("DIR", str(tmp_path / "sweep"))
    exec(documented, {})
    assert capsys.readouterr().out.startswith(f"{best} ")


def test_a_run_that_does_worse_than_those_before_is_pruned_which_is_told_everywhere_and_no_failure(
    tmp_path: Path, in_process: Callable[..., None], refusal: Callable[..., str]
) -> None:
    (tmp_path / "shared").mkdir()
    space = {"latent": CategoricalDistribution([2, 3])}
    study = optuna.create_study(study_name="vae-run", storage=storage(tmp_path / "shared"))
    for _ in range(5):  # no run of these images comes near
        study.add_trial(
            create_trial(value=1.0, params={"latent": 2}, distributions=space, intermediate_values={1: 1.0, 2: 1.0})
        )
    keys = ("latent=2,3", "batch_size=32", "optimizer.learning_rate=1e-3", "hydra.sweeper.pruner=median")
    own = ("sweep.dir=sweep", "hydra.sweeper.journal=shared/study.journal")
    arguments = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", *SMALL, *keys, *own)
    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"Pruned: test/loss=\d+\.\d+ after epoch 1 \(hydra\.sweeper\.pruner=median\)", result.stdout)

    trial = optuna.load_study(study_name="vae-run", storage=storage(tmp_path / "shared")).trials[5]
    assert (trial.state.name, trial.value) == ("PRUNED", trial.intermediate_values[1])
    run = (tmp_path / "shared" / trial.user_attrs["run"]).resolve()
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["epoch"], info["metrics"]["test/loss"]) == ("pruned", 1, trial.value)
    assert [(row["status"], row["epoch"]) for row in rows(tmp_path / "sweep")] == [("pruned", "1")]
    assert '<td class="pruned">pruned</td>' in (tmp_path / "sweep" / "sweep.html").read_text()
    said = refusal("vae-sample", run, cwd=tmp_path)
    assert "is not finished, but pruned: vae-run resume=" in said

    in_process("vae-run", f"resume={run}", cwd=tmp_path)
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["epoch"]) == ("finished", 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.kl_weigt=3", "there is no key 'loss.kl_weigt'. Did you mean 'loss.kl_weight'?"),
        ("hydra.sweeper.sampler=tpr", "hydra.sweeper.sampler=tpr: must be one of tpe, random, grid, cmaes. Did you"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be at least 1"),
                ("hydra.sweeper.n_trial=3", "there is no key 'hydra.sweeper.n_trial'. Did you mean 'hydra.sweeper.n_"),
                ("hydra.sweeper.n_trials=many", "hydra.sweeper.n_trials=many: "),
                ("latent=tag(lgo,interval(1,3))", "latent=tag(lgo,interval(1,3)): nothing can be drawn from it (of"),
                ("hydra.sweeper.sampler=grid", "hydra.sweeper.sampler=grid: optimizer.learning_rate has an interval"),
                ("sweep.metric=test/los", "sweep.metric=test/los: there is no such metric. Did you mean 'test/loss'?"),
            ]
        ),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_and_leaves_nothing(
    override: str, message: str, tmp_path: Path
) -> None:
    result = command("vae-run", "-m", "hydra/sweeper=optuna", *SMALL, override, "sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"vae-run: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failed_run_is_a_failed_trial_and_not_the_end_of_the_search(mine: Path) -> None:
    own = ("--config-dir", "conf")
    assert search(mine, 2, *own, loss="mine", behaviour="fails").returncode == 2
    assert [state for state, _ in trials(mine / "sweep")] == ["FAIL", "FAIL"]

    (mine / "sweep" / "study.journal").unlink()
    result = search(mine, 6, *own, loss="mine", behaviour="a,fails")
    assert result.returncode == 2, result.stderr
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
