"""A search, as Hydra sees it: a sweeper that asks a study what the next runs are. `study.py` is Optuna's side of it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_runner.config.keys import check_value, typed_keys
from vae_runner.errors import UserError, counted
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import check_stop

if TYPE_CHECKING:  # It imports Optuna, which is an extra.
    from vae_runner.sweeps.study import Study


class Search(Sweeper):
    """Launches runs, a batch after the other, whose overrides a study chooses from how the runs before ended."""

    def __init__(self, **keys: object) -> None:
        """Take the keys of `SearchConfig`, which `setup` finds in the configuration."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher, and refuse values that the search's keys do not allow."""
        for path, value, field in typed_keys(config.hydra.sweeper, "hydra.sweeper."):
            check_value(path, value, field)
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch as many runs as `n_trials` leaves to be done, of which those that fail count in this command.

        Raises:
            UserError: nothing can be searched as the keys say, or the study is of another search.
            Interrupted: the sweep is to stop.
        """
        from vae_runner.sweeps.study import Study, search_space

        assert self.config is not None
        config, keys = self.config, self.config.hydra.sweeper
        fixed, searched = self._split(arguments)
        if config.sweep.metric.startswith("test/"):
            print(
                f"sweep.metric={config.sweep.metric}: the test images decide, so test figures are no test of what is "
                "found; dataset.validation_fraction=0.1 sweep.metric=validation/loss keeps them out of it",
                flush=True,
            )
        sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        space = search_space(searched)
        study = Study(keys, space, config.sweep.metric, sweep, config.seed, config.epochs)
        logarithmic = [key for key, distribution in space.items() if getattr(distribution, "log", False)]
        sweep.search(config.sweep.metric, highest=keys.direction == "maximize", logarithmic=logarithmic)
        left = study.missing
        while (count := min(keys.n_jobs, left, study.missing)) > 0:
            self._launch(study, sweep, fixed, count)
            left -= count
        if best := study.best:
            print(f"The best of {counted(study.finished, 'run')}: {best}", flush=True)

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], list[Override]]:
        """Return the overrides of all runs, and those that are searched: of a key's, the last counts."""
        assert self.config is not None
        assert self.hydra_context is not None
        params = [f"{key}={value}" for key, value in self.config.hydra.sweeper.params.items()]
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides([*params, *arguments])
        last = {override.key_or_group: override for override in parsed}.values()
        searched = [override for override in last if override.is_sweep_override()]
        if not searched:
            raise UserError("hydra/sweeper=optuna: nothing is searched, all keys have one value: give one several")
        return [str(override.input_line) for override in last if override not in searched], searched

    def _launch(self, study: "Study", sweep: SweepDirectory, fixed: Sequence[str], count: int) -> None:
        from vae_runner.sweeps.study import overrides_of

        assert self.launcher is not None
        trials = []
        try:
            for _ in range(count):
                check_stop(sweep)  # Else the search would begin more runs after a signal.
                trials.append(study.ask())
            overrides = [[*fixed, *overrides_of(trial), f"hydra.sweeper.trial={trial.number}"] for trial in trials]
            returned = self.launcher.launch(overrides, initial_job_idx=trials[0].number)
        except BaseException:
            with suppress(OSError):  # What was raised says more than that the journal cannot be written either.
                for trial in trials:
                    study.fail(trial)
            raise
        for trial, job in zip(trials, returned, strict=True):
            assert job.hydra_cfg is not None
            study.tell(trial, job.return_value, Path(job.hydra_cfg.hydra.runtime.output_dir))
