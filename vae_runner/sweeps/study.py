"""Continuing a search: Optuna stores its study, but counts all trials anew and does not repeat incomplete ones."""

import logging
from pathlib import Path

import optuna
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from optuna.trial import FrozenTrial, TrialState

from vae_runner.compat.optuna import before_each_trial
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import check_stop


class ResumeStudy(Callback):
    """Before a search: queue the trials that did not complete, and let only what is missing of `n_trials` be done."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Change `hydra.sweeper.n_trials` and the study in `hydra.sweeper.storage`."""
        sweeper = config.hydra.sweeper
        for name in ("alembic", "alembic.runtime.plugins"):  # They log every table of a new file.
            logging.getLogger(name).setLevel(logging.WARNING)
        optuna.logging.set_verbosity(logging.WARNING)
        study = optuna.create_study(
            study_name=sweeper.study_name, storage=sweeper.storage, direction=sweeper.direction, load_if_exists=True
        )
        trials = study.trials
        for trial in trials:
            if trial.state == TrialState.RUNNING:  # Its process is gone.
                study.tell(trial.number, state=TrialState.FAIL)
        complete = [_parameters(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        waiting = [_parameters(trial) for trial in trials if trial.state == TrialState.WAITING]
        missing = max(sweeper.n_trials - len(complete), 0)
        for trial in trials:
            again = _parameters(trial) if trial.state in (TrialState.RUNNING, TrialState.FAIL) else {}
            if again and again not in [*complete, *waiting] and len(waiting) < missing:
                study.enqueue_trial(again)
                waiting.append(again)
        sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        before_each_trial(lambda: check_stop(sweep))  # Else the search would begin more runs after a signal.
        with open_dict(config):
            sweeper.n_trials = missing
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += len(trials)  # Else it would draw the same again.


def _parameters(trial: FrozenTrial) -> dict[str, object]:
    """Return the parameters of a trial, also of a queued one, for which Optuna stores them elsewhere."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}
