"""One run of a sweep: begun, gone on with, repeated or left alone, as its directory says."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_runner.config.checks import check
from vae_runner.config.composition import HydraJob, content_of
from vae_runner.config.instantiation import build
from vae_runner.config.keys import Content
from vae_runner.datasets.dataset import data_changes
from vae_runner.errors import Interrupted, UserError
from vae_runner.runtime.interruption import SCHEDULER_SIGNALS, STOP_SIGNALS, handled_signals
from vae_runner.runtime.streams import best_effort_output
from vae_runner.schema import Config
from vae_runner.storage.run_directory import OUTDATED, RunDirectory, timestamp
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.share import take_share
from vae_runner.training.early_stopping import check_metric

log = logging.getLogger(__name__)

CHILD = "VAE_RUNNER_SWEEP"  # in the environment: the process that Hydra launches the runs from
WORKER_LOST = 75  # its exit status when a launcher tells that a process of its own is gone
SUSPECTED = "suspected"  # in run.json, of having ended the process it was in
MULTI_WORKER = "hardware=multi_worker is for one run; a sweep spreads its runs over machines: hydra/launcher=…"
CHDIR = "hydra.job.chdir: a run stays in the folder it is begun in, which its relative paths are for; leave it out"
SECONDS_TO_END = 15  # that processes which run at the same time have for their checkpoints,
SECONDS_AT_ONCE = 2  # and after a second Ctrl-C

_stop_signals: list[int] = []  # that this process has had


def install_launcher_handlers(sweep: SweepDirectory) -> None:
    """Answer signals in the process that runs are launched from, while it does not run one itself.

    The launcher does not notice. The runs, which may be on other machines, are asked to stop by a file in the sweep's
    directory; when they have ended, those that have not begun end at once, and so the launcher comes to its end. It
    has a while for it.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            os.killpg(0, signal.SIGKILL)  # this process too: what a launcher says of being interrupted helps no one
        if not _stop_signals:
            _stop_signals.append(number)
            sweep.request_stop(number)
            signal.alarm(SECONDS_TO_END)
        elif number == signal.SIGINT:
            signal.alarm(SECONDS_AT_ONCE)

    for handled in (*handled_signals(), signal.SIGALRM):
        signal.signal(handled, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # They were kept back for this moment.


def check_stop(sweep: SweepDirectory) -> None:
    """Begin nothing more once the sweep is to stop.

    Raises:
        Interrupted: it is.
    """
    if number := _stop_signals[0] if _stop_signals else sweep.stop_requested:
        raise Interrupted(number)


def sweep_job(cfg: DictConfig, hydra: Any, path: Path, runner: Callable[[], Any]) -> float | None:
    """Bring the run at `path` to its end, unless it is there; returns the sweep's metric, or None where it failed.

    What goes wrong is noted in the run's directory and told; the sweep goes on.
    """
    own, job = content_of(cfg), HydraJob.of(hydra)
    directory = RunDirectory(path)
    sweep = SweepDirectory(path.parent)
    try:
        check_stop(sweep)
        if hydra.job.chdir:
            raise _refused(sweep, CHDIR)
        with best_effort_output():  # in processes of a launcher's
            return _bring_to_end(cfg, own, hydra, directory, runner)
    except UserError as error:
        _note_failure(directory, own, job, str(error))
        log.error("%s", error)
    except KeyboardInterrupt as interrupt:
        number = interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT
        if number in SCHEDULER_SIGNALS:
            signal.raise_signal(number)  # for the one that queues this job again
        elif os.environ.get(CHILD) == str(os.getpid()):
            sweep.request_stop(number)
            raise
        else:  # the process that this one works for ends when all of its processes have
            _stop_signals.append(number)
    except Exception as error:
        _note_failure(directory, own, job, f"{type(error).__name__}: {error}")
        log.exception("%s failed", path.name)
    return None


def _bring_to_end(
    cfg: DictConfig, own: Content, hydra: Any, directory: RunDirectory, runner: Callable[[], Any]
) -> float | None:
    status = directory.status if directory.has_run else None
    sweep = SweepDirectory(directory.path.parent)
    if status == "finished":
        directory.check_config()
        if not _is_current(directory, own):
            return None
        log.info("%s is finished already", directory.path.name)
        return _metric(directory, cfg.sweep.metric)
    if status == "running":
        log.warning("%s is running in another process", directory.path.name)
        directory.touch()
        return None
    if status == "failed" and directory.ended >= sweep.begun:
        return None  # in this very command, before a process of it was lost
    check(cfg)
    if cfg.hardware.distribution == "multi_worker":
        raise UserError(MULTI_WORKER)
    if os.environ.get(CHILD) != str(os.getpid()):
        os.environ["TTY_COMPATIBLE"] = "0"  # no progress bar: others write to the same terminal
    take_share(hydra.launcher, sweep, gpus=cfg.hardware.gpus is None)
    module, run_config = runner(), Config.of(cfg)
    from vae_runner.experiment import known_metrics  # which imports TensorFlow, as `runner` has

    if known := known_metrics(run_config):
        _check_metric(sweep, cfg.sweep.metric, known)
    suspected = directory.has_run and directory.info.get(SUSPECTED)
    with sweep.only_suspect(directory.path.name) if suspected else nullcontext(True) as may_run:
        check_stop(sweep)
        if not may_run:  # this process is about to be ended
            return None
        module.run(
            run_config, HydraJob.of(hydra), resumed=status is not None, stop_requested=lambda: sweep.stop_requested
        )
    _check_metric(sweep, cfg.sweep.metric, list(directory.info["metrics"]))
    return _metric(directory, cfg.sweep.metric)


def _is_current(directory: RunDirectory, own: Content) -> bool:
    """Say whether a finished run was trained on the images that there are now; if not, that is noted in it.

    Where these cannot be had any more, or the run does not tell what its images were, it is.
    """
    info = directory.info
    dataset = json.dumps(own["dataset"])
    try:
        changes = data_changes(info["data"], _fingerprint(dataset)) if "data" in info else ""
    except (UserError, OSError):  # the latter of a dataset of the user's own
        return True
    if changes:
        error = f"{directory.path.name} was trained on other images ({changes}): bring those back, or delete its folder"
        log.error("%s", error)
        directory.write_info({**info, OUTDATED: error})
    elif OUTDATED in info:
        directory.write_info({name: value for name, value in info.items() if name != OUTDATED})
    return not changes


@cache
def _fingerprint(dataset: str) -> dict[str, dict[str, Any]]:
    """Return that of the dataset with this configuration, in JSON: many runs of a sweep have the same."""
    fingerprint: dict[str, dict[str, Any]]
    fingerprint = build(json.loads(dataset), "dataset").fingerprint
    return fingerprint


def note_deaths(sweep: SweepDirectory, runs: Sequence[RunDirectory], how: str) -> None:
    """Tell in the directories of `runs`, which died at the same time, which of them failed.

    A launcher that loses a process ends the others too, and does not say whose fault it was. So those that died with
    another one are only suspected; what is suspected is done again while no other suspect runs, and fails if it dies.
    """
    suspect = sweep.take_suspect()
    guilty = [run for run in runs if run.path.name == suspect] or (runs if len(runs) == 1 else [])
    for run in runs:
        verdict = {"status": "failed", "error": f"the process died {how}"} if run in guilty else {SUSPECTED: True}
        run.write_info({**run.info, "ended": timestamp(time.time()), **verdict})
        print(f"{run.path.name}: the process died {how}{'' if run in guilty else ', with others: it is done again'}")


def _metric(directory: RunDirectory, name: str) -> float:
    """Return a finished run's metric; an older run may lack it, which is no fault of the others."""
    metrics = directory.info.get("metrics", {})
    if name not in metrics:
        raise UserError(
            f"{directory.path.name} is finished, and has no {name}: delete its folder to have it done again"
        )
    return float(metrics[name])


def _check_metric(sweep: SweepDirectory, name: str, known: Sequence[str]) -> None:
    """Refuse the whole sweep where its metric is none that a run has: it would be in vain to train the others."""
    try:
        check_metric("sweep.metric", name, known)
    except UserError as error:
        raise _refused(sweep, str(error)) from error


def _refused(sweep: SweepDirectory, reason: str) -> Interrupted:
    """End the whole sweep for a reason that holds for all of its runs; returns what to raise."""
    sweep.request_stop(signal.SIGTERM, reason)
    return Interrupted(signal.SIGTERM)


def _note_failure(directory: RunDirectory, own: Content, job: HydraJob | None, error: str) -> None:
    """See that the directory tells of a failure, also of one that came before there was a run in it.

    A run that was there and could not go on is touched: so it counts as one of this command, not of another before it.
    Where that fails too, it is told, and the other runs of the sweep go on.
    """
    try:
        if directory.has_run:
            directory.touch()
        else:
            with RunDirectory.create(directory.path, own, job) as created:
                created.write_info({"status": "failed", "ended": timestamp(time.time()), "error": error})
    except (UserError, OmegaConfBaseException) as problem:  # no room, or a configuration that cannot be resolved
        log.error("%s does not tell of its failure: %s", directory.path.name, problem)
