"""One experiment, top to bottom: the page to read first."""

import logging
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

import vae_runner
from vae_runner import hardware
from vae_runner.config import build
from vae_runner.console import console
from vae_runner.datasets import Dataset
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import UserError
from vae_runner.figures import Trained
from vae_runner.losses import Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.summary import summarize, training_flops
from vae_runner.run_directory import RunDirectory, save_figure
from vae_runner.tracking.metrics_table import MetricsTable
from vae_runner.tracking.progress import ProgressBar
from vae_runner.tracking.tensorboard import TensorBoard
from vae_runner.training.early_stopping import EarlyStopping
from vae_runner.training.inner import InnerLoop
from vae_runner.training.outer import Trainer
from vae_runner.training.schedules import LearningRate

log = logging.getLogger(__name__)

KEPT_TEST_IMAGES = 16  # in the run directory, for vae-compare


def run(config: DictConfig, path: Path) -> float:
    """Train as configured, into the run directory `path`; returns the final test loss, which a sweep may minimise.

    Raises:
        UserError: the configuration does not fit the data or the machine, or training diverged.
    """
    directory = RunDirectory.create(path, config)
    record = _Record(directory)
    try:
        loss = _train(config, directory, record)
    except KeyboardInterrupt:
        record.end("interrupted")
        raise
    except BaseException as error:
        record.end("failed", error=f"{type(error).__name__}: {error}")
        raise
    record.end("finished")
    log.info("Run directory: %s", _short(path))
    return loss


def _train(config: DictConfig, directory: RunDirectory, record: "_Record") -> float:
    machine = hardware.setup(config.hardware, config.seed)
    record.note(hardware=machine.description)

    dataset: Dataset = build(config.dataset)
    _check_dataset(dataset)
    with machine.strategy.scope():
        posterior = build(config.posterior)
        autoencoder = build(config.model, image_shape=dataset.image_shape, latent=config.latent, posterior=posterior)
        loss = build(config.loss)
        _check_fit(loss, posterior)

        train = Batches(dataset.train.images, config.batch_size, config.seed)
        evaluated = {
            name: Batches(s.images, config.batch_size) for name, s in dataset.splits.items() if name != "train"
        }
        learning_rate = LearningRate(
            config.optimizer.learning_rate, build(config.schedule), config.epochs, train.steps
        )  # fmt: skip
        optimizer = build(config.optimizer, learning_rate=learning_rate)
        if config.hardware.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(autoencoder.trainable_variables)

    inner = InnerLoop(autoencoder, loss, optimizer, machine, config.seed, train.steps)
    trainer = Trainer(inner, train, evaluated, learning_rate)
    metric_names = [f"{split}/{name}" for split in dataset.splits for name in inner.names]
    stopping = EarlyStopping(config.early_stopping, metric_names)
    _show_summary(autoencoder, dataset, config.batch_size, machine.description)

    with (
        MetricsTable(directory.metrics_file) as table,
        TensorBoard(directory.tensorboard) as board,
        ProgressBar(config.epochs, train.count) as bar,
    ):
        board.configuration(OmegaConf.to_yaml(config, resolve=True), _flat(config), str(directory.path))
        figures = _Figures(config.figures, directory, board)
        for result in trainer.epochs(config.epochs, bar.update):
            table.add(result)
            board.epoch(result)
            bar.epoch(result)
            record.note(epoch=result.epoch, step=result.step, metrics=result.metrics)
            trained = Trained(autoencoder, dataset.test, dataset.label_names, table.rows, result.epoch, config.seed)
            last = result.epoch == config.epochs or stopping.should_stop(result.metrics)
            figures.draw_periodic(trained, result.step, last)
            if last:
                break
        directory.save_models(autoencoder)
        _save_test_sample(trained, directory)
        figures.draw_final(trained)
    return float(result.metrics["test/loss"])


class _Record:
    """run.json, kept current."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._start = time.time()
        self._info: dict[str, Any] = {
            "status": "running",
            "started": _timestamp(self._start),
            "versions": {
                "vae_runner": vae_runner.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        self._write()

    def note(self, **entries: Any) -> None:
        """Add or replace entries."""
        self._info |= entries
        self._write()

    def end(self, status: str, **entries: Any) -> None:
        """The run is over."""
        now = time.time()
        self.note(status=status, ended=_timestamp(now), seconds=round(now - self._start, 3), **entries)

    def _write(self) -> None:
        self._directory.write_info(self._info)


class _Figures:
    """Draws the configured figures into the run directory, and the periodic ones into TensorBoard too."""

    def __init__(self, config: DictConfig, directory: RunDirectory, board: TensorBoard) -> None:
        self._every = config.every
        self._periodic = {name: build(node) for name, node in config.periodic.items() if node is not None}
        self._final = {name: build(node) for name, node in config.final.items() if node is not None}
        self._directory = directory
        self._board = board

    def draw_periodic(self, trained: Trained, step: int, last: bool) -> None:
        """Draw those that show training, if this epoch is one of theirs."""
        if not last and (self._every == 0 or trained.epoch % self._every):
            return
        for name, draw in self._periodic.items():
            figure = draw(trained)
            if figure is not None:
                save_figure(figure, self._directory.figure_file(name, trained.epoch))
                self._board.picture(name, figure, step)

    def draw_final(self, trained: Trained) -> None:
        """Draw those that show the result; `trained` is that of the last epoch."""
        for name, draw in self._final.items():
            figure = draw(trained)
            if figure is not None:
                save_figure(figure, self._directory.figure_file(name))


def _save_test_sample(trained: Trained, directory: RunDirectory) -> None:
    """Keep what vae-compare draws, so that the run directory alone is enough: embeddings, and a few test images."""
    labels: dict[str, Any] = {} if trained.test.labels is None else {"labels": trained.embedded.labels}
    directory.save_arrays("embeddings", {**trained.posterior, **labels})
    names = np.array(trained.label_names, dtype=np.str_)
    first = trained.test.first(KEPT_TEST_IMAGES)
    kept: dict[str, Any] = {} if first.labels is None else {"labels": first.labels}
    directory.save_arrays("test_images", {"images": np.asarray(first.images), "label_names": names, **kept})


def _check_dataset(dataset: Dataset) -> None:
    height, width, channels = dataset.image_shape
    if min(height, width) < 8 or channels not in (1, 3):
        raise UserError(
            f"the dataset's images are {height}×{width}×{channels}: they must be at least 8×8, with 1 or 3 channels"
        )


def _check_fit(loss: Loss, posterior: type) -> None:
    if "kl" in loss.terms and not hasattr(posterior, "kl"):
        raise UserError("loss has a KL term, and this posterior has none: choose posterior=gaussian, or loss=ae")


def _show_summary(autoencoder: Autoencoder, dataset: Dataset, batch_size: int, machine: Mapping[str, Any]) -> None:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    shape = "×".join(map(str, dataset.image_shape))
    log.info(
        "Dataset: %s images of %s%s",
        sizes,
        shape,
        f", {len(dataset.label_names)} classes" if dataset.label_names else "",
    )
    for model in (autoencoder.encoder, autoencoder.decoder):
        table = Table(title=model.name, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column, justify in (
            ("layer", "left"),
            ("kind", "left"),
            ("output", "left"),
            ("parameters", "right"),
            ("MFLOP", "right"),
        ):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for layer in summarize(model):
            mflop = f"{layer.flops / 1e6:.2f}" if layer.flops else ""
            table.add_row(
                layer.name, layer.kind, "×".join(map(str, layer.output_shape)), f"{layer.parameters:,}", mflop
            )
        console.print(table)
    flops = training_flops(autoencoder.encoder, autoencoder.decoder)
    parameters = autoencoder.encoder.count_params() + autoencoder.decoder.count_params()
    log.info(
        "Parameters: %s; arithmetic: %.1f MFLOP an image, forward and backward; %.2f GFLOP a step of %d images",
        f"{parameters:,}", flops / 1e6, flops * batch_size / 1e9, batch_size,
    )  # fmt: skip
    device = ", ".join(machine["gpus"]) or f"CPU ({machine['cores']} cores)"
    log.info("Device: %s, %s, XLA %s", device, machine["precision"], "on" if machine["xla"] else "off")


def _flat(node: DictConfig, prefix: str = "") -> dict[str, Any]:
    """The scalar values of the configuration by their dotted keys, without figures."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        name = str(key)
        if isinstance(value, DictConfig):
            values |= {} if name == "figures" else _flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[f"{prefix}{name}"] = value
    return values


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def _short(path: Path) -> Path:
    """The path as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
