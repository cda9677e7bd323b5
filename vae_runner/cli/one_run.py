"""One run, from what Hydra has composed for it: checked, then begun or continued."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from hydra.conf import HydraConf
from omegaconf import DictConfig

from vae_runner.cli.rerun import Rerun
from vae_runner.config.checks import check
from vae_runner.config.composition import HydraJob
from vae_runner.config.refusals import CHDIR
from vae_runner.errors import UserError
from vae_runner.files.folders import remove_empty
from vae_runner.schema import Config
from vae_runner.storage import resume
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import source_of_weights
from vae_runner.sweeps.directory import SweepDirectory


def do_run(
    cfg: DictConfig,
    hydra: HydraConf,
    command: Sequence[str],
    import_run: Callable[[], ModuleType],
    rerun: Rerun | None = None,
) -> None:
    """Train as configured, in the directory that Hydra's own configuration names.

    `command` has the arguments as they were given, for run.json. `import_run` returns the module `vae_runner.run`, and
    is called when all is checked that can be before that. With `rerun`, an earlier run is repeated.

    Raises:
        UserError: the configuration makes no sense, or the run was refused, or failed in a way the user can mend.
        Interrupted: a stop was requested; the run is in a checkpoint.
    """
    path = Path(hydra.runtime.output_dir)
    try:
        if hydra.job.chdir:
            raise UserError(CHDIR)
        resumed = cfg.resume is not None
        if resumed:
            cfg = resume.configuration(path, cfg, hydra.overrides.task)
        else:
            _check_is_outside(path)
            RunDirectory(path).check_own()
        if rerun is not None:
            cfg = rerun.configuration(cfg, hydra.overrides.task)
        check(cfg)
        if not resumed and cfg.init_from is not None:
            source_of_weights(cfg.init_from)
        job = HydraJob.of(hydra, command)
        import_run().run(Config.of(cfg), job if rerun is None else rerun.job(job), resumed=resumed)
    finally:
        remove_empty(path)  # which Hydra has made for a run that has not come to begin


def _check_is_outside(path: Path) -> None:
    """Refuse a new run in the directory of another one, or of a sweep, which would take it for one of its own."""
    around, kind = next((folder for folder in path.absolute().parents if RunDirectory(folder).has_run), None), "run"
    if around is None and SweepDirectory(path.parent).exists:
        around, kind = path.parent, "sweep"
    if around is not None:
        raise UserError(
            f"{path} is in the directory of a {kind}, {around}: give a folder outside with hydra.run.dir=DIR"
        )
