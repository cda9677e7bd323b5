"""A search that was stopped goes on: Optuna keeps its study in a file, but counts and forgets what it had not told."""

import logging
from pathlib import Path
from typing import Any

import optuna
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from optuna.trial import FrozenTrial, TrialState

from vae_runner.compat.optuna import before_each_trial
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import check_stop


class GoOn(Callback):
    """Before a search: the trials that did not complete come first, and only what is missing of `n_trials` is done."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Change `hydra.sweeper.n_trials` and the study in `hydra.sweeper.storage`."""
        sweeper = config.hydra.sweeper
        for name in ("alembic", "alembic.runtime.plugins"):  # tells of every table in a new file
            logging.getLogger(name).setLevel(logging.WARNING)
        optuna.logging.set_verbosity(logging.WARNING)
        study = optuna.create_study(
            study_name=sweeper.study_name, storage=sweeper.storage, direction=sweeper.direction, load_if_exists=True
        )
        trials = study.trials
        for trial in trials:
            if trial.state == TrialState.RUNNING:  # its process is gone
                study.tell(trial.number, state=TrialState.FAIL)
        complete = [_parameters(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        waiting = [_parameters(trial) for trial in trials if trial.state == TrialState.WAITING]
        to_go = max(sweeper.n_trials - len(complete), 0)
        for trial in trials:
            again = _parameters(trial) if trial.state in (TrialState.RUNNING, TrialState.FAIL) else {}
            if again and again not in [*complete, *waiting] and len(waiting) < to_go:
                study.enqueue_trial(again)
                waiting.append(again)
        sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        before_each_trial(lambda: check_stop(sweep))  # else the search would begin more runs after a signal
        with open_dict(config):
            sweeper.n_trials = to_go
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += len(trials)  # or it would draw the same again


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Those of a trial, also of one that waits: Optuna keeps what it is to have elsewhere until it begins."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}
