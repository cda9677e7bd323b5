"""One experiment, top to bottom: the page to read first."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
from omegaconf import DictConfig, OmegaConf

from vae_runner import hardware
from vae_runner.config import build
from vae_runner.datasets import Dataset
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import UserError
from vae_runner.figures import Trained
from vae_runner.losses import Loss
from vae_runner.run_directory import RunDirectory
from vae_runner.tracking.metrics_table import MetricsTable
from vae_runner.tracking.pictures import Pictures
from vae_runner.tracking.progress import ProgressBar
from vae_runner.tracking.record import Record
from vae_runner.tracking.summary import show_summary
from vae_runner.tracking.tensorboard import TensorBoard
from vae_runner.training import custom_gradients
from vae_runner.training.early_stopping import EarlyStopping
from vae_runner.training.inner import InnerLoop
from vae_runner.training.outer import Trainer
from vae_runner.training.schedules import LearningRate
from vae_runner.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

KEPT_TEST_IMAGES = 16  # in the run directory, for vae-compare


def run(config: DictConfig, hydra: DictConfig) -> float:
    """Train as configured, into the directory Hydra chose; returns the final test loss, which a sweep may minimise.

    Raises:
        UserError: the configuration does not fit the data or the machine, or training diverged.
    """
    path = Path(hydra.runtime.output_dir)
    directory = RunDirectory.create(path, config, hydra)
    stopwatch = Stopwatch()
    record = Record(directory.write_info, stopwatch.seconds)
    try:
        with custom_gradients.forgotten():
            loss = _train(config, directory, record, stopwatch)
    except KeyboardInterrupt:
        record.end("interrupted")
        raise
    except BaseException as error:
        record.end("failed", error=f"{type(error).__name__}: {error}")
        raise
    record.end("finished")
    log.info("Run directory: %s", path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return loss


def _train(config: DictConfig, directory: RunDirectory, record: Record, stopwatch: Stopwatch) -> float:
    machine = hardware.setup(config.hardware, config.seed)
    record.note(hardware=machine.description)

    dataset = build(config.dataset)
    _check_dataset(dataset)
    with machine.strategy.scope():
        posterior = build(config.posterior)
        autoencoder = build(config.model, image_shape=dataset.image_shape, latent=config.latent, posterior=posterior)
        loss = build(config.loss)
        _check_fit(loss, posterior)

        train = Batches(dataset.train.images, config.batch_size, config.seed)
        evaluated = {n: Batches(s.images, config.batch_size) for n, s in dataset.splits.items() if n != "train"}
        schedule = build(config.schedule)
        if "learning_rate" not in config.optimizer:
            raise UserError("optimizer has no learning_rate: its YAML needs that key, the highest one of the run")
        learning_rate = LearningRate(config.optimizer.learning_rate, schedule, config.epochs, train.steps)
        optimizer = build(config.optimizer, learning_rate=learning_rate)
        if config.hardware.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(autoencoder.trainable_variables)

    inner = InnerLoop(autoencoder, loss, optimizer, machine, config.seed, train.steps)
    trainer = Trainer(inner, train, evaluated, learning_rate, stopwatch)
    stopping = EarlyStopping(config.early_stopping, [f"{s}/{n}" for s in dataset.splits for n in inner.names])
    show_summary(autoencoder, dataset, config.batch_size, machine.description)

    with (
        MetricsTable(directory.metrics_file) as table,
        TensorBoard(directory.tensorboard) as board,
        ProgressBar(config.epochs, train.count) as bar,
    ):
        pictures = Pictures(config.figures, directory.save_figure, board)
        board.configuration(OmegaConf.to_yaml(config, resolve=True), config, str(directory.path))
        stopwatch.since_start("preparation")
        for result in trainer.epochs(config.epochs, bar.update):
            last = stopping.should_stop(result.metrics) or result.epoch == config.epochs
            table.add(result)
            board.epoch(result)
            bar.epoch(result)
            record.note(epoch=result.epoch, step=result.step, metrics=result.metrics)
            trained = Trained(autoencoder, dataset.test, dataset.label_names, table.rows, result.epoch, config.seed)
            with stopwatch.on("figures"):
                pictures.draw_periodic(trained, result.step, last)
            if last:
                break
        directory.save_models(autoencoder)
        _save_test_sample(trained, directory)
        with stopwatch.on("figures"):
            pictures.draw_final(trained)
    return float(result.metrics["test/loss"])


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


def _check_fit(loss: Loss, posterior: type) -> None:
    if "kl" in loss.terms and not hasattr(posterior, "kl"):
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
