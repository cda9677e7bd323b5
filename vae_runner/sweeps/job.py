"""One run of a sweep: begun, continued, repeated or left alone, as its directory says.

PROTOCOL.md draws the processes that this code runs in.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_runner.config.checks import check
from vae_runner.config.composition import HydraJob, content_of
from vae_runner.config.keys import Content
from vae_runner.config.refusals import CHDIR
from vae_runner.datasets.binarization import build_dataset
from vae_runner.datasets.dataset import Fingerprint, data_changes
from vae_runner.errors import Interrupted, Pruned, UnfitError, UserError
from vae_runner.files.folders import remove_empty
from vae_runner.runtime.interruption import SCHEDULER_SIGNALS, STOP_SIGNALS, handled_signals
from vae_runner.runtime.streams import best_effort_output
from vae_runner.schema import Config
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import OUTDATED, PRUNED, timestamp
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.share import take_share
from vae_runner.training.early_stopping import check_metric

log = logging.getLogger(__name__)

Hydra = Any  # Hydra's own configuration, a DictConfig; HydraConfig.get() is annotated as if it were a HydraConf.

LAUNCHING = "VAE_RUNNER_SWEEP"  # an environment variable: the sweep's directory, then the launching process's number
WORKER_LOST = 75  # the launching process's exit status when its launcher has lost a process
QUARANTINED = "quarantined"  # a key of run.json: the run's process died, together with others
FORMERLY = "suspected"  # the key that earlier versions have for it
MULTI_WORKER = "hardware=multi_worker is for one run; a sweep spreads its runs over machines: hydra/launcher=…"
SECONDS_TO_END = 15  # for the checkpoints of processes that run at the same time
SECONDS_AT_ONCE = 2  # for them after a second Ctrl-C

_stop_signals: list[int] = []  # those that this process has received


def install_launcher_handlers(sweep: SweepDirectory) -> None:
    """Answer signals in the launching process, while it does not train a run itself.

    The launcher is not interrupted. The sweep's stop file asks its runs, which may be on other machines, to end; when
    they have, those that have not begun end at once, and so the launcher returns. An alarm limits the time for that.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            os.killpg(0, signal.SIGKILL)  # This process too: a launcher's own words on being interrupted help no one.
        if not _stop_signals:
            _stop_signals.append(number)
            sweep.request_stop(number)
            signal.alarm(SECONDS_TO_END)
        elif number == signal.SIGINT:
            signal.alarm(SECONDS_AT_ONCE)

    for handled in (*handled_signals(), signal.SIGALRM):
        signal.signal(handled, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # The supervisor had them blocked until now.


def check_stop(sweep: SweepDirectory) -> None:
    """Raise Interrupted once this process has received a stop signal, or there is a stop file."""
    if number := _stop_signals[0] if _stop_signals else sweep.stop_requested:
        raise Interrupted(number)


def sweep_job(
    config: DictConfig, job: HydraJob, hydra: Hydra, path: Path, import_run: Callable[[], ModuleType]
) -> float | str | None:
    """Bring the run at `path` to its end, unless it is finished, and return `sweep.metric`, which a search improves.

    Where the search gives the run up, that is `PRUNED`; where it fails, is interrupted or runs elsewhere, None. A
    failure is recorded in the run's directory and logged, and the sweep continues. `import_run` returns the module that
    runs one experiment.

    Raises:
        Interrupted: in the launching process, the sweep is to stop.
    """
    own = content_of(config)
    directory, sweep = RunDirectory(path), SweepDirectory(path.parent)
    try:
        check_stop(sweep)
        if hydra.job.chdir:
            raise _refused(sweep, CHDIR)
        with best_effort_output():  # A launcher's processes have not entered it.
            return _bring_to_end(config, own, hydra, job, directory, import_run)
    except UserError as error:
        if isinstance(error, UnfitError) and config.sweep.unfit == "skip":  # A search's, which did not know it before.
            print(f"Left out: {error}", flush=True)  # The log would lie in its folder.
            remove_empty(path)
            return None
        _record_failure(directory, own, job, str(error))
        log.error("%s", error)
    except Pruned:
        return PRUNED
    except KeyboardInterrupt as interrupt:
        number = interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT
        if number in SCHEDULER_SIGNALS:
            signal.raise_signal(number)  # for the handler that queues this job again
        elif _is_launching_process():
            sweep.request_stop(number)
            raise
        else:  # The launching process ends when all of its launcher's processes have.
            _stop_signals.append(number)
    except Exception as error:
        _record_failure(directory, own, job, f"{type(error).__name__}: {error}")
        log.exception("%s failed", path.name)
    return None


def _is_launching_process() -> bool:
    return os.environ.get(LAUNCHING) == str(os.getpid())


def _bring_to_end(
    config: DictConfig,
    own: Content,
    hydra: Hydra,
    job: HydraJob,
    directory: RunDirectory,
    import_run: Callable[[], ModuleType],
) -> float | str | None:
    sweep, name, metric = SweepDirectory(directory.path.parent), directory.path.name, config.sweep.metric
    status = directory.status if directory.has_run else None
    if status == "finished":
        directory.check_config()
        if not _is_current(directory, own):
            return None
        log.info("%s is finished already", name)
        return _metric(directory, metric)
    searched = hydra.sweeper.get("trial") is not None
    if status == PRUNED and searched and hydra.sweeper.pruner != "none":  # Any other command continues it.
        log.info("%s is pruned already", name)
        return PRUNED
    if status == "running":
        log.warning("%s is running in another process", name)
        directory.touch()
        return None
    if status == "failed" and directory.ended >= sweep.info.begun:
        return None  # It failed in this very command, before a process was lost.
    check(config)
    if config.hardware.distribution == "multi_worker":
        raise UserError(MULTI_WORKER)
    if not _is_launching_process():
        os.environ["TTY_COMPATIBLE"] = "0"  # no progress bar: others write to the same terminal
    take_share(hydra.launcher, sweep, gpus=config.hardware.gpus is None)
    run, run_config = import_run(), Config.of(config)
    from vae_runner.experiment import known_metrics  # It imports TensorFlow, as `import_run` has.

    report = None
    if searched:
        from vae_runner.sweeps.study import reporter  # It imports Optuna, which is an extra.

        report = reporter(hydra.sweeper, metric, run_config.epochs)

    if known := known_metrics(run_config):
        _check_metric(sweep, metric, known)
    quarantined = directory.has_run and not directory.info.keys().isdisjoint((QUARANTINED, FORMERLY))
    with sweep.quarantine(name) if quarantined else nullcontext(True) as may_run:
        check_stop(sweep)
        if not may_run:  # This process is about to be ended.
            return None
        run.run(
            run_config,
            job,
            resumed=status is not None,
            stop_requested=lambda: sweep.stop_requested,
            report=report,
        )
    _check_metric(sweep, metric, list(directory.info["metrics"]))
    return _metric(directory, metric)


def _is_current(directory: RunDirectory, own: Content) -> bool:
    """Return whether a finished run was trained on the images that there are now; record in it if not.

    It was, where these images are not available any more, or the run has not recorded what its images were.
    """
    info = directory.info
    dataset = json.dumps(own["dataset"])
    try:
        changes = data_changes(info["data"], _fingerprint(dataset)) if "data" in info else ""
    except (UserError, OSError):  # A dataset of the user's own may raise the latter.
        return True
    if changes:
        error = f"{directory.path.name} was trained on other images ({changes}): bring those back, or delete its folder"
        log.error("%s", error)
        directory.write_info({**info, OUTDATED: error})
    elif OUTDATED in info:
        directory.write_info({name: value for name, value in info.items() if name != OUTDATED})
    return not changes


@cache  # Many runs of a sweep have the same dataset.
def _fingerprint(dataset: str) -> Fingerprint:
    """Return the fingerprint of the dataset with this configuration, in JSON."""
    return build_dataset(json.loads(dataset)).fingerprint


def record_deaths(sweep: SweepDirectory, runs: Sequence[RunDirectory], how: str) -> None:
    """Record in the directories of `runs`, which died at the same time, which of them failed.

    A launcher that loses a process ends the others too, and does not say which was the first. So a run that died with
    others is quarantined: it is repeated while no other quarantined run is, and has failed if it dies then.
    """
    died_alone = sweep.pop_died_in_quarantine()
    failed = [run for run in runs if run.path.name == died_alone] or (runs if len(runs) == 1 else [])
    for run in runs:
        verdict = {"status": "failed", "error": f"the process died {how}"} if run in failed else {QUARANTINED: True}
        run.write_info({**run.info, "ended": timestamp(time.time()), **verdict})
        print(f"{run.path.name}: the process died {how}{'' if run in failed else ', with others: it will be repeated'}")


def _metric(directory: RunDirectory, name: str) -> float:
    """Return a finished run's metric; refuse a run without it, which may be older than the metric."""
    metrics = directory.info.get("metrics", {})
    if name not in metrics:
        raise UserError(
            f"{directory.path.name} is finished, and has no {name}: delete its folder to have it done again"
        )
    return float(metrics[name])


def _check_metric(sweep: SweepDirectory, name: str, known: Sequence[str]) -> None:
    """Refuse all runs of a sweep whose metric is not among those that a run has."""
    try:
        check_metric("sweep.metric", name, known)
    except UserError as error:
        raise _refused(sweep, str(error)) from error


def _refused(sweep: SweepDirectory, reason: str) -> Interrupted:
    """Ask all runs of a sweep to end for this reason; return what to raise."""
    sweep.request_stop(signal.SIGTERM, reason)
    return Interrupted(signal.SIGTERM)


def _record_failure(directory: RunDirectory, own: Content, job: HydraJob | None, error: str) -> None:
    """Record a failure in the run's directory, which is made if it failed before that; log it where that fails too.

    A directory with a run that could not continue is only touched, which counts the run among those of this command.
    """
    try:
        if directory.has_run:
            directory.touch()
        else:
            with RunDirectory.create(directory.path, own, job) as created:
                created.write_info({"status": "failed", "ended": timestamp(time.time()), "error": error})
    except (UserError, OmegaConfBaseException) as problem:  # no room, or a configuration that cannot be resolved
        log.error("The failure of %s cannot be recorded: %s", directory.path.name, problem)
