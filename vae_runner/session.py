"""One run's life: its directory, its role among the workers, and how its end is recorded."""

import logging
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import tensorflow as tf

from vae_runner.config.composition import HydraJob
from vae_runner.datasets.dataset import data_changes
from vae_runner.errors import (
    Interrupted,
    Pruned,
    UnwritableError,
    UserError,
    counted,
    first_line,
    permissions_explained,
)
from vae_runner.evaluation.metrics import metrics_of
from vae_runner.evaluation.results import final_arrays
from vae_runner.experiment import Experiment
from vae_runner.figures.animation import frame
from vae_runner.figures.trained import Trained
from vae_runner.files.folders import remove_empty
from vae_runner.models.variables import Variables
from vae_runner.runtime.cluster import Cluster, find
from vae_runner.runtime.console import LOG_ONLY, silence_native_stderr
from vae_runner.runtime.hardware import LOST_ERRORS, Hardware, check_same_on_all_workers
from vae_runner.runtime.interruption import StopRequest
from vae_runner.runtime.surroundings import Surroundings
from vae_runner.schema import Config
from vae_runner.storage.names import LAST_MODELS
from vae_runner.storage.pictures import save_frame
from vae_runner.storage.repetition import repetition
from vae_runner.storage.resume import check_checkpoint_config
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import MODELS, PRUNED, RERUN_OF
from vae_runner.storage.stored_run import StoredRun
from vae_runner.trackers.evaluation import measure, scalars, show
from vae_runner.trackers.figure_files import FigureFiles
from vae_runner.trackers.metrics_table import MetricsTable
from vae_runner.trackers.multiple import Trackers
from vae_runner.trackers.progress import ProgressBar
from vae_runner.trackers.projector import write_projector
from vae_runner.trackers.record import Record
from vae_runner.trackers.search_report import Report, SearchReport
from vae_runner.trackers.tensorboard import TensorBoard, write_evaluation
from vae_runner.training.batch_size import AUTO
from vae_runner.training.checkpoints import Checkpoints
from vae_runner.training.outer import EpochResult
from vae_runner.training.selection import Row
from vae_runner.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

PREPARED = "prepared"  # how a file names the variables of `Loss.prepared`


@dataclass(frozen=True)
class Session:
    """A run under way in this process."""

    config: Config  # as this worker follows it
    directory: RunDirectory
    record: Record
    stopwatch: Stopwatch
    stop: StopRequest
    cluster: Cluster | None  # None: this machine alone
    in_sweep: bool
    repeated: StoredRun | None  # the run that this one is to repeat
    report: Report | None  # to a search

    @classmethod
    @contextmanager
    def open(
        cls,
        config: Config,
        job: HydraJob,
        *,
        resumed: bool = False,
        stop_requested: Callable[[], object] | None = None,
        report: Report | None = None,
    ) -> "Iterator[Session]":
        """Hold the directory that Hydra chose, answer stop requests, and record how what is inside ends.

        With `resumed`, the directory has a run, which continues. Of several workers the chief writes there, and the
        others in a scratch directory. `stop_requested` is asked now and then whether the run is to end. `report` takes
        the result of each epoch, and says why the run is given up if it is.

        Raises:
            UserError: the directory cannot be used, or what is inside raised something the user can mend.
            Interrupted: a stop was requested; its text is the resume hint.
            Pruned: `report` has given the run up.
        """
        path = job.directory
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        cluster = find(config.hardware)
        if cluster:
            silence_native_stderr()
        opened: Callable[[], AbstractContextManager[RunDirectory]]
        if cluster is None or cluster.is_chief:
            resume_hint = f"vae-run {shlex.quote(f'resume={shown}')} continues it"
            if cluster:
                resume_hint += ", with hardware=auto also on one machine"
            if resumed:
                opened = partial(RunDirectory.open_to_resume, path)
            else:
                opened = partial(RunDirectory.create, path, config.content, job)
        else:
            resume_hint = "the first machine says how to continue it"
            _leave_output_to_the_chief(path)
            config = config.without_output()
            opened = partial(RunDirectory.scratch, config.content, path if resumed else None)
        stop = StopRequest(stop_requested)
        repeated = None if job.repeated is None else StoredRun.open(job.repeated)
        with stop.handlers_installed(), ExitStack() as stack:
            with ExitStack() as under_way:
                with stop.shielded():  # Once there is a run, its end is recorded.
                    directory = stack.enter_context(opened())
                    surroundings = stack.enter_context(Surroundings(directory.save_diff))
                    stopwatch = Stopwatch()
                    before = directory.info if resumed else None
                    began: dict[str, object] = {
                        "commands": [*(before or {}).get("commands", []), shlex.join(["vae-run", *job.command])]
                    }
                    if repeated is not None:
                        began[RERUN_OF] = str(repeated.path.absolute())
                    record = Record(
                        directory.write_info, stopwatch.seconds, before, lambda: {**began, **surroundings.entries()}
                    )
                    under_way.enter_context(_recorded_end(record, directory, cluster, resume_hint))
                with permissions_explained():
                    yield cls(config, directory, record, stopwatch, stop, cluster, job.in_sweep, repeated, report)
            # The run is finished, whatever happens from here on.
            with suppress(KeyboardInterrupt, UnwritableError):
                surroundings.wait()
                record.complete()
        log.info("Run directory: %s", shown)

    @property
    def shows_layers(self) -> bool:
        """Return whether both networks are listed layer by layer: once, and not for every run of a sweep."""
        return not self.in_sweep and (self.cluster is None or self.cluster.is_chief)

    def with_batch_size(self, choose: Callable[[], int]) -> Self:
        """Return the session with a number in place of batch_size=auto: the one that the run has, or else a choice."""
        if self.config.batch_size != AUTO:
            return self
        stored = self.directory.config.get("batch_size")
        if not isinstance(stored, int) and (checkpoint := self.directory.checkpoints.newest()):
            stored = checkpoint.config["batch_size"]  # of a run that has lost its run.json, and is begun again
        config = replace(self.config, batch_size=stored if isinstance(stored, int) else choose())
        self.directory.write_config(config.content)
        return replace(self, config=config)

    def checkpoints(self, experiment: Experiment) -> Checkpoints:
        """Return what writes the experiment's checkpoints into the run's directory."""
        return Checkpoints(
            self.config.checkpoint, self.directory.checkpoints, experiment.state.capture, experiment.selection
        )

    def restore(self, experiment: Experiment) -> bool:
        """Put the experiment where the run's newest checkpoint is, if there is one; return whether there is.

        Raises:
            UserError: the checkpoint is of another configuration, of other images, or not that of all workers.
        """
        checkpoint = self.directory.checkpoints.newest()
        if checkpoint is not None:
            check_checkpoint_config(self.config.content, checkpoint.config, self.directory.path)
            if changes := data_changes(checkpoint.data, experiment.dataset.fingerprint):
                raise UserError(
                    f"{self.directory.path} was trained on other images ({changes}): bring those back, say with "
                    "dataset.root= where they are, or start a new run"
                )
        if not self.in_sweep:  # The configuration is that of the directory, which may have been damaged.
            self.directory.check_config()
        if checkpoint is not None:
            self.directory.write_config(self.config.content)
            if experiment.loss.prepared is not None:
                self.directory.load_prepared(Variables({PREPARED: experiment.loss.prepared}))
            experiment.state.restore(checkpoint)
            log.info("Resumed in epoch %d, at step %d", checkpoint.position.epoch, experiment.trainer.step)
        elif self.record.was_finished:
            raise UserError(
                f"{self.directory.path} is finished, and has no checkpoint to continue from: start a new run, in "
                "another directory"
            )
        check_same_on_all_workers(experiment.machine, f"step {experiment.trainer.step}")
        self.record.note(data=experiment.dataset.fingerprint)
        if self.repeated is not None:
            for line in repetition(str(self.repeated.path), self.repeated.info, self.record.info):
                log.info("%s", line)
        if experiment.trainer.history:  # run.json may have been lost, or be of a moment after the checkpoint.
            self.record.epoch(EpochResult.of_row(experiment.trainer.history[-1]))
        return checkpoint is not None

    def keep_prepared(self, experiment: Experiment) -> None:
        """Write the weights of a network that was trained before the run's training, with which alone it continues."""
        if experiment.loss.prepared is not None:
            self.directory.save_prepared(Variables({PREPARED: experiment.loss.prepared}))

    def trackers(self, experiment: Experiment) -> Trackers:
        """Return where the run's numbers and pictures go; those of epochs that will come again are deleted there."""
        history, images = experiment.trainer.history, experiment.trainer.images_per_epoch
        search = [SearchReport(self.report, self.stop.shielded)] if self.report else []
        return Trackers(
            [
                MetricsTable(self.directory.metrics_file, history),
                FigureFiles(self.directory.save_figure),
                TensorBoard(self.directory, history),
                ProgressBar(self.config.epochs, images),
                self.record,
                *search,
            ]
        )

    def stopped_together(self, machine: Hardware) -> AbstractContextManager[None]:
        """Inside, the workers of a run answer a stop request at the same step, whichever has it."""
        return self.stop.synchronized(machine.all_reduce_max) if self.cluster else nullcontext()

    def select_models(self, experiment: Experiment) -> Row:
        """Give the networks the weights of the epoch that the models are to be of; return that epoch's row.

        From then on they are not those that training would continue with, which the newest checkpoint has.
        """
        rows, selection, wanted = experiment.trainer.history, experiment.selection, self.config.checkpoint.models
        last = rows[-1]
        chosen: Row = last
        best = selection.best(rows) if wanted != "last" else None
        checkpoint = best and self.directory.checkpoints.of_step(int(best["step"]))
        keeps_last = bool(checkpoint) and wanted == "both"
        self.directory.save_last_models(experiment.result if keeps_last else None)
        if keeps_last:
            self.record.note(**{LAST_MODELS: {"epoch": int(last["epoch"]), "step": int(last["step"])}})
        if best and checkpoint:
            experiment.state.take_weights(checkpoint)
            chosen, reason = best, f"in which {selection.metric} was lowest ({best[str(selection.metric)]:.4g})"
        elif best:
            reason = f"the last: there is no checkpoint of epoch {best['epoch']:.0f}, the best, any more"
        else:
            why = selection.why_last(rows) if wanted != "last" else ""
            reason = f"the last{why and f': {why}'}"
        besides = f"; those of epoch {last['epoch']:.0f}, the last, are in {LAST_MODELS}/" if keeps_last else ""
        log.info("Models: of epoch %d, %s%s", chosen["epoch"], reason, besides)
        result = EpochResult.of_row(chosen)
        models = {"epoch": result.epoch, "step": result.step, "reason": reason}
        self.record.note(**{MODELS: models}, metrics=result.metrics)
        return chosen

    def save_frame(self, experiment: Experiment) -> None:
        """Write the newest epoch's frame of the animation, where there is to be one."""
        if self.config.figures.animation:
            trained = experiment.trained()
            save_frame(frame(trained), self.directory.frame_file(trained.epoch))

    def save_animation(self, experiment: Experiment) -> None:
        """Write the animation of the epochs, where there is to be one, and say where it begins later than training."""
        if not self.config.figures.animation:
            return
        epochs = [int(row["epoch"]) for row in experiment.trainer.history]
        frames = self.directory.save_animation(epochs)
        if frames < len(epochs):
            log.info("figures.animation: a frame for %d of %s", frames, counted(len(epochs), "epoch"))

    def save_results(self, experiment: Experiment, trained: Trained) -> None:
        """Write the trained models, what comparing runs needs of the test split, and TensorBoard's projector of it."""
        self.directory.save_models(experiment.result)
        write_projector(self.directory, trained)
        for name, arrays in final_arrays(
            trained.posterior["mean"], trained.embedded, trained.test, trained.label_names
        ):
            self.directory.save_arrays(name, arrays)

    def evaluate(self, experiment: Experiment, row: Row) -> None:
        """Measure what `evaluation` names of the model, of the epoch of this row; keep the results, and show them."""
        metrics = metrics_of(self.config.evaluation)
        if metrics:
            entries = measure(experiment.subject(row), metrics, self.directory, self.directory.weights_digest)
            write_evaluation(self.directory.path, int(row["step"]), scalars(entries))
            show(entries, metrics)


@contextmanager
def _recorded_end(record: Record, directory: RunDirectory, cluster: Cluster | None, resume_hint: str) -> Iterator[None]:
    """Record in run.json how what is inside ends, and say, also in the log, what the user can do about it."""

    def end(status: str, **entries: object) -> None:
        with suppress(UnwritableError):  # Where there is no room, the user is still told what has happened.
            record.end(status, **entries)

    def failure(line: str, advice: str = "") -> UserError:
        end("failed", error=line)
        error = UserError(line + advice)
        log.info("%s", error, extra=LOG_ONLY)
        return error

    try:
        yield
    except Pruned as pruned:
        end(PRUNED, step=directory.checkpoints.newest_step)
        log.info("Pruned: %s", pruned)
        raise
    except KeyboardInterrupt as interrupt:
        end("interrupted", step=directory.checkpoints.newest_step)
        number = interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT
        interrupted = Interrupted(number, f"interrupted at step {directory.checkpoints.newest_step}: {resume_hint}")
        log.info("%s", interrupted, extra=LOG_ONLY)
        raise interrupted from interrupt
    except UnwritableError as error:
        raise failure(str(error), f": make room for it; then {resume_hint}") from error
    except UserError as error:
        refused = failure(str(error))
        if not record.has_begun:  # A refusal leaves nothing behind, as one before there is a run does.
            with suppress(OSError):
                directory.discard()
        raise refused from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        needed = f"the run needs more memory than there is ({first_line(error)})"
        raise failure(needed, ": choose a smaller model, latent, batch_size or image size") from error
    except BaseException as error:
        if cluster and isinstance(error, LOST_ERRORS) and (lost := cluster.named_in(str(error))):
            raise failure(f"{lost} is gone, and this run with it", f": {resume_hint}") from error
        end("failed", error=f"{type(error).__name__}: {error}")
        raise
    record.end("finished")


def _leave_output_to_the_chief(path: Path) -> None:
    """Say nothing from now on but what goes wrong on this machine, and leave none of Hydra's folder at `path`."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
        else:
            handler.setLevel(logging.WARNING)
    os.environ["TTY_COMPATIBLE"] = "0"  # no progress bar
    remove_empty(path)
