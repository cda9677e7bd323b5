"""One experiment, top to bottom: the page to read first."""

import logging
import os
import shlex
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from vae_runner.acceleration.custom_ops.loading import load_for
from vae_runner.acceleration.fuse import fuse
from vae_runner.compat import tensorflow as custom_gradients
from vae_runner.compat.keras import unallocated
from vae_runner.config.composition import without_output
from vae_runner.config.fingerprint import fingerprint
from vae_runner.config.instantiation import build
from vae_runner.datasets.dataset import Dataset, Split, data_changes
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import Interrupted, UnwritableError, UserError, first_line, not_permitted
from vae_runner.experiment import build_autoencoder, build_players, synchronize_normalization
from vae_runner.figures.trained import Trained
from vae_runner.files.folders import remove_empty
from vae_runner.losses.base import AUTOENCODER, Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.summary import training_bytes
from vae_runner.models.variables import Variables
from vae_runner.posteriors.base import Posterior
from vae_runner.runtime import hardware
from vae_runner.runtime.cluster import Cluster, find
from vae_runner.runtime.console import LOG_ONLY, silence_native_messages
from vae_runner.runtime.interruption import Interruption
from vae_runner.storage.resume import check_same_past
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.trackers.metrics_table import MetricsTable
from vae_runner.trackers.pictures import Pictures
from vae_runner.trackers.progress import ProgressBar
from vae_runner.trackers.record import Record
from vae_runner.trackers.summary import show_summary
from vae_runner.trackers.tensorboard import TensorBoard
from vae_runner.training.checkpoints import Checkpoint, Checkpoints
from vae_runner.training.early_stopping import OTHER_METRICS, Row, check_metric, should_stop
from vae_runner.training.inner import InnerLoop
from vae_runner.training.outer import Progress, Trainer
from vae_runner.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

KEPT_TEST_IMAGES = 16  # in the run directory, for vae-compare


def run(
    config: DictConfig, hydra: DictConfig, *, resumed: bool = False, told: Callable[[], object] | None = None
) -> None:
    """Train as configured, in the directory Hydra chose.

    With `resumed`, a run is in that directory, and goes on from its newest checkpoint. `told` is asked now and then
    whether it is to end, as by a signal.

    Raises:
        UserError: the configuration does not fit the data or the machine, or training diverged.
        Interrupted: a signal asked for the end; what there is is in a checkpoint.
    """
    path = Path(hydra.runtime.output_dir)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    cluster = find(config.hardware)
    if cluster:
        silence_native_messages()
    in_sweep = hydra.mode == RunMode.MULTIRUN
    opened: AbstractContextManager[RunDirectory]
    if cluster is None or cluster.is_chief:
        goes_on = f"vae-run {shlex.quote(f'resume={shown}')} goes on"
        if cluster:
            goes_on += ", with hardware=auto also on one machine"
        opened = RunDirectory.open_to_resume(path) if resumed else RunDirectory.create(path, config, hydra)
    else:
        goes_on = "the first machine says how to go on"
        _leave_output_to_the_chief(path)
        config = without_output(config)
        opened = RunDirectory.scratch(config, path if resumed else None)
    interruption = Interruption(told)
    with interruption.heard(), opened as directory:
        stopwatch = Stopwatch()
        record = Record(directory.write_info, stopwatch.seconds, directory.info if resumed else None)
        with _end_noted(record, directory, cluster, goes_on), custom_gradients.forgotten():
            _train(config, directory, record, stopwatch, interruption, cluster, in_sweep=in_sweep)
    log.info("Run directory: %s", shown)


def metrics(config: DictConfig) -> list[str]:
    """The names of what such a run measures, as far as the configuration tells; none where its loss does not say."""
    try:
        loss: Any = get_class(config.loss._target_)
        terms = tuple(loss.terms)
    except Exception:  # whatever is wrong with a loss of the user's own is told when it is built
        return []
    validated = OmegaConf.select(config, "dataset.validation_fraction") != 0
    splits = ("train", *(("validation",) if validated else ()), "test")
    return [*(f"{split}/{name}" for split in splits for name in ("loss", *terms)), *OTHER_METRICS]


@contextmanager
def _end_noted(record: Record, directory: RunDirectory, cluster: Cluster | None, goes_on: str) -> Iterator[None]:
    """Note in run.json how what is inside ends, and say, also in the log, what the user can do about it."""

    def note(status: str, **entries: Any) -> None:
        with suppress(UnwritableError):  # where there is no room, what has happened is still told
            record.end(status, **entries)

    def fail(line: str, advice: str = "") -> UserError:
        note("failed", error=line)
        told = UserError(line + advice)
        log.info("%s", told, extra=LOG_ONLY)
        return told

    try:
        yield
    except KeyboardInterrupt as interrupt:
        note("interrupted", step=directory.newest_step)
        number = interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT
        ended = Interrupted(number, f"interrupted at step {directory.newest_step}: {goes_on}")
        log.info("%s", ended, extra=LOG_ONLY)
        raise ended from interrupt
    except UnwritableError as error:
        raise fail(str(error), f": make room for it; then {goes_on}") from error
    except UserError as error:
        raise fail(str(error)) from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        needed = f"the run needs more memory than there is ({first_line(error)})"
        raise fail(needed, ": choose a smaller model, latent, batch_size or image size") from error
    except BaseException as error:
        if cluster and isinstance(error, hardware.LOST_ERRORS) and (lost := cluster.named_in(str(error))):
            raise fail(f"{lost} is gone, and this run with it", f": {goes_on}") from error
        if isinstance(error, PermissionError) and error.filename is not None:
            raise fail(str(not_permitted(error))) from error
        note("failed", error=f"{type(error).__name__}: {error}")
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


@dataclass(frozen=True)
class _Experiment:
    """What a configuration makes: the parts that training needs."""

    dataset: Dataset
    autoencoder: Autoencoder
    fused: Autoencoder  # the same for training and for looking at it, computed faster
    variables: Variables
    trainer: Trainer


def _build(config: DictConfig, machine: hardware.Hardware, stopwatch: Stopwatch, signals: Interruption) -> _Experiment:
    dataset = build(config.dataset)
    _check_dataset(dataset)
    devices = f"{len(machine.strategy.extended.worker_devices)} {machine.description['device']}"
    _check_alike(machine, f"{fingerprint(_without_root(config))} {dataset.fingerprint} {devices}")
    train, evaluated = _batches(dataset, config, machine)
    loss = build(config.loss)
    with machine.strategy.scope():
        with unallocated():
            autoencoder = build_autoencoder(config, dataset.image_shape)
            _check_memory(autoencoder, min(config.batch_size, len(dataset.train)), machine)
        _check_fit(loss, autoencoder.posterior)
        synchronize_normalization(autoencoder, machine.synchronized)
        fused = replace(
            autoencoder,
            encoder=fuse(autoencoder.encoder, machine.custom_ops),
            decoder=fuse(autoencoder.decoder, machine.custom_ops),
        )
        players = build_players(config, loss, autoencoder, train.steps, machine.replicas)
    inner = InnerLoop(fused, loss, players, machine, config.seed, train.steps)
    metrics = [f"{split}/{name}" for split in dataset.splits for name in inner.names]
    check_metric("early_stopping.metric", config.early_stopping.metric, metrics)
    check_metric("checkpoint.metric", config.checkpoint.metric, metrics)
    trainer = Trainer(inner, train, evaluated, players[AUTOENCODER].learning_rate, stopwatch, signals.deferred)
    optimizers = {f"optimizer/{name}": player.optimizer for name, player in players.items()}
    return _Experiment(dataset, autoencoder, fused, Variables({**autoencoder.parts, **optimizers}), trainer)


def _batches(dataset: Dataset, config: DictConfig, machine: hardware.Hardware) -> tuple[Batches, dict[str, Batches]]:
    """Those to train on, and those of each split to evaluate on."""
    size = config.batch_size
    if size % machine.replicas:
        raise UserError(
            f"batch_size={size} is shared by {machine.replicas} devices, and does not divide: give a multiple of "
            f"{machine.replicas}, like {max(size // machine.replicas, 1) * machine.replicas}"
        )

    def batches(split: Split, seed: int | None = None) -> Batches:
        return Batches(split.images, size, seed, machine.strategy, split.labels)

    others = {name: split for name, split in dataset.splits.items() if name != "train"}
    return batches(dataset.train, config.seed), {name: batches(split) for name, split in others.items()}


def _train(
    config: DictConfig,
    directory: RunDirectory,
    record: Record,
    stopwatch: Stopwatch,
    signals: Interruption,
    cluster: Cluster | None,
    *,
    in_sweep: bool,
) -> None:
    # Before the machines join: one that compiles operations would let the others wait.
    custom_ops = load_for(config.hardware)
    machine = hardware.setup(config.hardware, config.seed, cluster, custom_ops)
    signals.hear_again()
    record.note(hardware=machine.description)
    experiment = _build(config, machine, stopwatch, signals)
    trainer = experiment.trainer
    rows = _restore(experiment, directory, config, stopwatch, from_file=not in_sweep)
    if rows is None and record.was_finished:
        raise UserError(
            f"{directory.path} is finished, and has no checkpoint to go on from: start a new run, in another directory"
        )
    _check_alike(machine, f"step {trainer.step}")
    record.note(data=experiment.dataset.fingerprint)
    if rows:  # run.json may have been lost, or be of a moment after the checkpoint
        metrics = {name: value for name, value in rows[-1].items() if name not in ("epoch", "step")}
        record.note(epoch=int(rows[-1]["epoch"]), step=int(rows[-1]["step"]), metrics=metrics)
    if rows is None:
        brief = in_sweep or (cluster is not None and not cluster.is_chief)
        show_summary(experiment.autoencoder, experiment.dataset, config.batch_size, machine.description, brief=brief)
    table = MetricsTable(directory.metrics_file, rows or [])
    checkpoints = Checkpoints(config.checkpoint, directory, lambda: _capture(experiment, table.rows, config, stopwatch))

    def on_progress(progress: Progress) -> None:
        bar.update(progress)
        checkpoints.within_epoch()

    with (
        TensorBoard(directory.tensorboard, table.last_step) as board,
        ProgressBar(config.epochs, trainer.images_per_epoch) as bar,
    ):
        pictures = Pictures(config.figures, directory.save_figure, board)
        if not table.rows:
            board.configuration(OmegaConf.to_yaml(config, resolve=True), config, str(directory.path))
        stopwatch.since_start("preparation")
        record.goes_on()
        together = signals.together(machine.largest) if cluster else nullcontext()
        with checkpoints.when_interrupted(), together:
            while not _is_over(config, table.rows):
                result = trainer.run_epoch(on_progress)
                table.add(result)
                board.epoch(result)
                bar.epoch(result)
                record.note(epoch=result.epoch, step=result.step, metrics=result.metrics)
                last = _is_over(config, table.rows)
                with stopwatch.on("figures"):
                    pictures.draw_periodic(_trained(experiment, table.rows, config), result.step, last)
                trainer.next_epoch()
                checkpoints.after_epoch(table.rows, last)
        with checkpoints.when_interrupted():
            trained = _trained(experiment, table.rows, config)
            directory.save_models(experiment.autoencoder)
            _save_test_sample(trained, directory)
            with stopwatch.on("figures"):
                pictures.draw_final(trained)


def _check_alike(machine: hardware.Hardware, what: str) -> None:
    """Refuse to train with machines of which `what` is not the same."""
    number = zlib.crc32(what.encode())
    if machine.largest(number) != -machine.largest(-number):
        raise UserError(
            "the machines of this run do not begin alike: give all of them the same command, but for hardware.worker, "
            "the same images, and to go on, the same run directory"
        )


def _without_root(config: DictConfig) -> DictConfig:
    """Return the configuration without the place of the images, which may lie elsewhere on every machine."""
    same = config.copy()
    if "root" in same.dataset:
        same.dataset.root = None
    return same


def _restore(
    experiment: _Experiment, directory: RunDirectory, config: DictConfig, stopwatch: Stopwatch, *, from_file: bool
) -> list[dict[str, float]] | None:
    """Put the experiment where the newest checkpoint is; returns its rows of the metrics table. None: there is none.

    `from_file`: the configuration is that in the directory, which may have been damaged, and not a sweep's.
    """
    checkpoint = directory.newest_checkpoint()
    if checkpoint is None:
        if from_file:
            directory.check_config()
        return None
    check_same_past(config, checkpoint.config, directory.path)
    if changes := data_changes(checkpoint.data, experiment.dataset.fingerprint):
        raise UserError(
            f"{directory.path} was trained on other images ({changes}): bring those back, say with dataset.root= where "
            "they are, or start a new run"
        )
    if from_file:
        directory.check_config()
    directory.write_config(config)
    if mismatch := experiment.variables.mismatch(checkpoint.variables):
        raise UserError(
            f"the checkpoint is of other variables: {mismatch}; a resumed run needs the networks and the optimizer it "
            "began with, hardware.precision=mixed_float16 and its loss scale included"
        )
    experiment.variables.assign(checkpoint.variables)
    experiment.trainer.position = checkpoint.position
    stopwatch.seconds.update(checkpoint.seconds)
    log.info("Resumed in epoch %d, at step %d", checkpoint.position.epoch, experiment.trainer.step)
    return checkpoint.rows


def _capture(
    experiment: _Experiment, rows: Sequence[Row], config: DictConfig, stopwatch: Stopwatch
) -> tuple[int, Checkpoint]:
    """The run as it stands, and its step. The row of an epoch whose figures are still to come is not in it."""
    position = experiment.trainer.position
    before = [dict(row) for row in rows if row["epoch"] < position.epoch]
    content: Any = OmegaConf.to_container(config, resolve=True)
    values = experiment.variables.values()
    data = experiment.dataset.fingerprint
    return experiment.trainer.step, Checkpoint(position, before, dict(stopwatch.seconds), content, values, data)


def _trained(experiment: _Experiment, rows: Sequence[Row], config: DictConfig) -> Trained:
    dataset, epoch = experiment.dataset, int(rows[-1]["epoch"])
    return Trained(experiment.fused, dataset.test, dataset.label_names, rows, epoch, config.seed)


def _is_over(config: DictConfig, rows: Sequence[Row]) -> bool:
    return len(rows) >= config.epochs or should_stop(config.early_stopping, rows)


def _check_dataset(dataset: Dataset) -> None:
    for name, split in dataset.splits.items():
        shape, kind = split.images.shape, split.images.dtype
        if kind != np.uint8 or len(shape) != 4 or len(split) == 0 or shape[1:] != dataset.train.images.shape[1:]:
            raise UserError(
                f"the dataset's {name} images are {kind} of shape {shape}: they must be uint8, "
                "[n, height, width, channels], at least one, and of the same size in every split"
            )
        if split.labels is not None and len(split.labels) != len(split):
            raise UserError(f"the dataset has {len(split)} {name} images and {len(split.labels)} labels of them")
    height, width, channels = dataset.image_shape
    if min(height, width) < 8 or channels not in (1, 3):
        raise UserError(
            f"the dataset's images are {height}×{width}×{channels}: they must be at least 8×8, with 1 or 3 channels"
        )


def _check_memory(autoencoder: Autoencoder, images: int, machine: hardware.Hardware) -> None:
    needed, there = training_bytes((autoencoder.encoder, autoencoder.decoder), images), hardware.memory()
    if needed > there and machine.description["device"] == "cpu":
        raise UserError(
            f"training these networks on {images} images a step takes more than {needed / 1e9:,.0f} GB of memory, and "
            f"this machine has {there / 1e9:,.0f} GB: choose a smaller model, latent, batch_size or image size"
        )


def _check_fit(loss: Loss, posterior: Posterior) -> None:
    if loss.needs_density and not posterior.has_density:
        raise UserError("loss has a KL term, and this posterior has none: choose posterior=gaussian, or loss=ae")


def _save_test_sample(trained: Trained, directory: RunDirectory) -> None:
    """Keep what vae-compare draws, so that the run directory alone is enough: embeddings, and a few test images."""
    first = trained.test.first(KEPT_TEST_IMAGES)
    labels: dict[str, Any] = {}
    if trained.embedded.labels is not None:
        labels = {"labels": trained.embedded.labels}
    directory.save_arrays("embeddings", {**trained.posterior, **labels})
    names = np.array(trained.label_names, dtype=np.str_)
    directory.save_arrays(
        "test_images", {"images": np.asarray(first.images), "label_names": names, "count": np.array(len(trained.test))}
    )
