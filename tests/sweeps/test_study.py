"""Continuing a search that was stopped, with stand-ins for what its trials compute."""

import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

optuna = pytest.importorskip("optuna", reason="needs the extra 'sweep'")

from optuna.trial import TrialState  # noqa: E402

from vae_runner.errors import Interrupted  # noqa: E402
from vae_runner.sweeps.directory import SweepDirectory  # noqa: E402
from vae_runner.sweeps.study import ResumeStudy  # noqa: E402


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setattr(optuna.study.Study, "ask", optuna.study.Study.ask)  # to be put back
    sweeper = {
        "study_name": "s", "storage": f"sqlite:///{tmp_path}/study.db", "direction": "minimize", "n_trials": 3,
        "sampler": {"seed": 0},
    }  # fmt: skip
    return OmegaConf.create({"hydra": {"sweeper": sweeper, "sweep": {"dir": str(tmp_path)}}})


def study(config: DictConfig) -> Any:
    sweeper = config.hydra.sweeper
    return optuna.create_study(study_name="s", storage=sweeper.storage, load_if_exists=True)


def killed(config: DictConfig, number: int) -> None:
    """Trials whose process is killed while they run."""
    for _ in range(number):
        study(config).ask().suggest_float("x", 0, 1)


def start(config: DictConfig) -> list[TrialState]:
    """What becomes of the trials when the search is started."""
    ResumeStudy().on_multirun_start(config.copy())
    return [trial.state for trial in study(config).trials]


def test_a_trial_that_waits_is_not_queued_again_at_every_start(config: DictConfig) -> None:
    killed(config, 1)
    for _ in range(3):
        assert start(config) == [TrialState.FAIL, TrialState.WAITING]


def test_all_trials_whose_process_is_gone_are_marked_failed_also_those_that_are_not_repeated(
    config: DictConfig,
) -> None:
    killed(config, 5)
    assert start(config) == [TrialState.FAIL] * 5 + [TrialState.WAITING] * 3


def test_a_search_that_is_to_end_chooses_no_more_runs(config: DictConfig, tmp_path: Path) -> None:
    ResumeStudy().on_multirun_start(config)
    study(config).ask()
    SweepDirectory(tmp_path).request_stop(signal.SIGTERM)
    with pytest.raises(Interrupted):
        study(config).ask()
    assert len(study(config).trials) == 1
