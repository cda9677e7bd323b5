"""One run of a sweep: begun, gone on with, repeated or left alone, as its directory says."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vae_runner import config
from vae_runner.errors import UserError
from vae_runner.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory

log = logging.getLogger(__name__)

CHILD = "VAE_RUNNER_SWEEP"  # in the environment of the process that Hydra launches the runs from
WORKER_LOST = 75  # its exit status when a launcher tells that a process of its own is gone


def sweep_job(cfg: DictConfig, hydra: Any, path: Path, runner: Callable[[], Any]) -> float | None:
    """Bring the run at `path` to its end, unless it is there; returns the sweep's metric, or None where it failed.

    What goes wrong is noted in the run's directory and told; the sweep goes on.
    """
    own = config.of_the_run(cfg)
    directory = RunDirectory(path)
    status = directory.status if directory.has_run else None
    if status == "finished":
        log.info("%s is finished already", path.name)
        return _metric(directory, cfg.sweep.metric)
    if status == "running":
        log.warning("%s is running in another process", path.name)
        return None
    if status == "failed" and directory.info.get("ended_at", 0) >= SweepDirectory(path.parent).begun:
        return None  # its process died a moment ago, and would again
    try:
        config.check(cfg)
        runner().run(own, hydra, resumed=status is not None)
        return _metric(directory, cfg.sweep.metric)
    except UserError as error:
        _note_failure(directory, own, hydra, str(error))
        log.error("%s", error)
    except Exception as error:
        _note_failure(directory, own, hydra, f"{type(error).__name__}: {error}")
        log.exception("%s failed", path.name)
    return None


def _metric(directory: RunDirectory, name: str) -> float:
    metrics = directory.info.get("metrics", {})
    if name not in metrics:
        raise UserError(f"sweep.metric={name}: there is no such metric. Choose from {', '.join(metrics)}.")
    return float(metrics[name])


def _note_failure(directory: RunDirectory, own: DictConfig, hydra: Any, error: str) -> None:
    """See that the directory tells of a failure, also of one that came before there was a run in it."""
    if not directory.has_run:
        with RunDirectory.create(directory.path, own, hydra) as created:
            created.write_info({"status": "failed", "error": error})
