"""Optuna's study of a search: its journal, the space that is searched, how runs are chosen, and which are given up.

The journal is a file in the sweep's directory, or elsewhere for the searches of several machines. The launching process
asks the study for trials, and tells it how their runs have ended; a run process reports the run's epochs.
"""

import itertools
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from vae_runner.errors import UserError, counted
from vae_runner.files.atomic import writing
from vae_runner.files.folders import with_home
from vae_runner.storage.run_info import PRUNED
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import check_stop

if TYPE_CHECKING:  # It imports TensorFlow.
    from vae_runner.training.outer import EpochResult

SECONDS_TO_OWN = 10  # after which a trial whose sweep is not known is nobody's
SWEEP = "sweep_id"  # an attribute of a trial: the identity of the sweep that it is of, as paths differ by machines
# What earlier versions wrote in its place: the sweep's folder, as it is called from the journal's.
SWEEP_FOLDER = "sweep"
RUN = "run"  # another: the run's folder, as it is called from the journal's
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {  # by their word, of a seed
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # All trials are queued: it draws nothing.
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}
PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {  # by their word, of the number of epochs
    "none": lambda epochs: NopPruner(),
    "median": lambda epochs: MedianPruner(),
    "hyperband": lambda epochs: HyperbandPruner(max_resource=epochs),
}


class Study:
    """A study as the launching process has it: open, with what an earlier command left undone queued again."""

    def __init__(
        self,
        keys: DictConfig,
        space: Mapping[str, BaseDistribution],
        metric: str,
        sweep: SweepDirectory,
        seed: int,
        epochs: int,
    ) -> None:
        """Open the study that `keys` (of `SearchConfig`) name, or begin it, for a search of this sweep.

        Raises:
            UserError: the study is of another metric, direction or other choices, or its journal is damaged.
            UnwritableError: the journal cannot be written.
            Interrupted: the sweep is to stop.
        """
        grid = _grid(space) if keys.sampler == "grid" else []
        self._journal = _journal(keys)
        self._space, self._metric, self._sweep = space, metric, sweep.info.identity
        self._sweep_folder = self._from_journal(sweep.path)
        with writing(self._journal):
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            _cut_partial_line(self._journal)
            self._study = optuna.create_study(
                study_name=keys.study_name,
                storage=_storage(self._journal),
                direction=keys.direction,
                sampler=SeededByTrial(SAMPLERS[keys.sampler], seed),
                pruner=PRUNERS[keys.pruner](epochs),
                load_if_exists=True,
            )
            self._check(keys.direction)
            self._wanted = min(keys.n_trials, len(grid) or keys.n_trials)
            self._fail_lost(sweep)
            self._queue(grid)

    @property
    def missing(self) -> int:
        """Return how many trials are to be done yet, by the searches of all machines."""
        return max(self._wanted - self.finished, 0)

    @property
    def finished(self) -> int:
        """Return how many trials are complete or pruned."""
        return len(self._study.get_trials(deepcopy=False, states=DONE))

    @property
    def best(self) -> str:
        """Return the metric, overrides and run of the best complete trial, or nothing if there is none."""
        if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return ""
        best = self._study.best_trial
        run = f": {os.path.relpath(self._journal.parent / best.user_attrs[RUN])}" if RUN in best.user_attrs else ""
        return f"{self._metric}={best.value:.6g} with {' '.join(overrides_of(best))}{run}"

    def ask(self) -> optuna.Trial:
        """Return the next trial: a queued one, or one that the sampler chooses."""
        with writing(self._journal):
            trial = self._study.ask(dict(self._space))
            trial.set_user_attr(SWEEP, self._sweep)
        return trial

    def tell(self, trial: optuna.Trial, outcome: float | str | None, run: Path) -> None:
        """Record how the run of a trial has ended: with this value of the metric, `PRUNED`, or, None, not at all."""
        with writing(self._journal):
            trial.set_user_attr(RUN, self._from_journal(run))
            if outcome is None:
                self.fail(trial)
            elif outcome == PRUNED:
                self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self._study.tell(trial, float(outcome), skip_if_finished=True)

    def fail(self, trial: optuna.Trial) -> None:
        """Record that a trial came to nothing: the next command does it again."""
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _check(self, direction: str) -> None:
        """Refuse to continue a study of another search, whose trials say nothing of this one."""
        other = f"{self._journal} is the study of another search, which"
        advice = "give the same, or another sweep.dir"
        if (found := self._study.direction.name.lower()) != direction:
            raise UserError(f"{other} has hydra.sweeper.direction={found}: {advice}")
        names = self._study.metric_names or [self._metric]
        if names != [self._metric]:
            raise UserError(f"{other} has sweep.metric={names[0]}: {advice}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names(names)
        for trial in self._study.get_trials(deepcopy=False):
            for name in trial.distributions.keys() & self._space.keys():
                try:
                    check_distribution_compatibility(trial.distributions[name], self._space[name])
                except ValueError as error:
                    raise UserError(f"{other} has other values of {name}: {advice}") from error

    def _fail_lost(self, sweep: SweepDirectory) -> None:
        """Record that trials whose process is gone came to nothing: those of this sweep, and those of none.

        Another machine may be about to say that one of the latter is its own, and is given time for it: no moment that
        was written down is compared, as its clock may be wrong. What it asks for meanwhile is left alone.
        """
        own = (self._sweep, self._sweep_folder)
        lost = {trial.number for trial in self._running() if _owner(trial) in own}
        nobodys = {trial.number for trial in self._running() if _owner(trial) is None}
        if nobodys and self.missing:
            print(
                f"{counted(len(nobodys), 'trial')} in {self._journal} may be of another machine: waiting "
                f"{SECONDS_TO_OWN} s for it to say so",
                flush=True,
            )
            for _ in range(SECONDS_TO_OWN):
                check_stop(sweep)
                time.sleep(1)
            lost |= nobodys & {trial.number for trial in self._running() if _owner(trial) is None}
        for number in lost:
            with suppress(UpdateFinishedTrialError):  # Another machine tells it of one of nobody's, before or just now.
                self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _queue(self, grid: Sequence[Mapping[str, object]]) -> None:
        """Queue what is to be done for certain: trials that came to nothing, and those of the grid."""
        trials = self._study.get_trials(deepcopy=False)
        known: list[Mapping[str, object]] = [_parameters(t) for t in trials if t.state != TrialState.FAIL]
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        failed = [_parameters(trial) for trial in trials if trial.state == TrialState.FAIL]
        for parameters in [*failed, *grid]:
            if parameters and parameters not in known and waiting < self.missing:
                self._study.enqueue_trial(dict(parameters))
                known.append(parameters)
                waiting += 1

    def _from_journal(self, folder: Path) -> str:
        """Return a folder as it is called on all machines that share the journal."""
        return os.path.relpath(folder, self._journal.parent)


class SeededByTrial(BaseSampler):
    """A sampler whose draws are a function of the seed, the trial's number, and the trials before.

    So neither a search that is continued nor the searches of several machines draw the same trial twice.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the draws of a trial."""
        self._sampler = self._make(int(np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters of `search_space` together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter that is not drawn with others."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler note what it keeps of a trial that has ended."""
        self._sampler.after_trial(study, trial, state, values)


def reporter(keys: DictConfig, metric: str, epochs: int) -> "Callable[[EpochResult], str]":
    """Return what reports an epoch of the run of trial `keys.trial`, and says why the run is given up if it is."""
    journal = _journal(keys)
    pruner = PRUNERS[keys.pruner](epochs)
    # The sampler of the search would begin to draw the trial again.
    study = optuna.load_study(
        study_name=keys.study_name, storage=_storage(journal), sampler=RandomSampler(), pruner=pruner
    )
    trial = optuna.Trial(study, study.get_trials(deepcopy=False)[keys.trial]._trial_id)

    def report(result: "EpochResult") -> str:
        if metric not in result.metrics:  # The sweep is refused for it at the end of the run.
            return ""
        with writing(journal):
            trial.report(result.metrics[metric], result.epoch)
            given_up = trial.should_prune()
        value = f"{metric}={result.metrics[metric]:.6g}"
        return f"{value} after epoch {result.epoch} (hydra.sweeper.pruner={keys.pruner})" if given_up else ""

    return report


def search_space(overrides: Sequence[Override]) -> dict[str, BaseDistribution]:
    """Return what Optuna draws each key from, of overrides with several values.

    Raises:
        UserError: Optuna has no distribution of such values.
    """
    space = {}
    for override in overrides:
        try:
            space[override.get_key_element()] = _distribution(override)
        except ValueError as error:
            raise UserError(f"{override.input_line}: nothing can be drawn from it ({error})") from error
    return space


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        if unknown := value.tags - {"log"}:
            raise ValueError(f"of the tags there is only log, and no {', '.join(sorted(unknown))}")
        assert value.start is not None
        assert value.end is not None
        return _numbers(value.start, value.end)(value.start, value.end, log="log" in value.tags)
    values: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    if isinstance(value, RangeSweep):
        ordered = sorted(values)
        if not ordered:
            raise ValueError("it is empty")
        return _numbers(*ordered)(ordered[0], ordered[-1], step=abs(value.step))
    return CategoricalDistribution(values)


def _numbers(*values: float) -> Callable[..., BaseDistribution]:
    """Return what makes a distribution of integers, where all of these are, else of real numbers."""
    return IntDistribution if all(isinstance(value, int) for value in values) else FloatDistribution


def _grid(space: Mapping[str, BaseDistribution]) -> list[dict[str, object]]:
    """Return all combinations, of which the last key changes first, as in a sweep without a search."""
    choices = {name: list(_values(name, distribution)) for name, distribution in space.items()}
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _values(name: str, distribution: BaseDistribution) -> Sequence[object]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None or distribution.log:
        raise UserError(f"hydra.sweeper.sampler=grid: {name} has an interval: give a choice or a range of it")
    return [low + step * n for n in range(round((high - low) / step) + 1)]


def overrides_of(trial: optuna.Trial | FrozenTrial) -> list[str]:
    """Return the parameters of a trial as overrides."""
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in trial.params.items()
    ]


def _owner(trial: FrozenTrial) -> object:
    """Return what says which sweep a trial is of; None where nothing does."""
    return trial.user_attrs.get(SWEEP, trial.user_attrs.get(SWEEP_FOLDER))


def _parameters(trial: FrozenTrial) -> dict[str, object]:
    """Return the parameters of a trial, also of a queued one, for which Optuna stores them elsewhere."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _journal(keys: DictConfig) -> Path:
    return with_home("hydra.sweeper.journal", keys.journal).absolute()


def _storage(journal: Path) -> JournalStorage:
    try:
        return JournalStorage(JournalFileBackend(str(journal)))
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{journal} is damaged, or no journal of Optuna's ({type(error).__name__}: {error}): bring it back from a "
            "copy, or delete it to begin the search anew"
        ) from error


def _cut_partial_line(journal: Path) -> None:
    """Remove what a process that was killed, or found no room, has written of an entry: others would follow it."""
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        with journal.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()


optuna.logging.set_verbosity(optuna.logging.WARNING)
