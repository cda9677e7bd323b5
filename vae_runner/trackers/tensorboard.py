"""TensorBoard: scalars, pictures, the configuration as text, and hyperparameters for comparing the runs of a sweep."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams

from vae_runner.config.keys import Content, leaves
from vae_runner.config.registry import number_keys
from vae_runner.errors import UnwritableError
from vae_runner.files.atomic import replacing, writing
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult

EVALUATION = ".evaluation"  # the end of the name of an event file of vae-evaluate


class TensorBoard(Tracker):
    """Writes the event files of a run; scalars and pictures lie at the run's optimizer step."""

    def __init__(self, folder: Path, last_step: int = -1) -> None:
        """Delete what the folder has of steps after `last_step`, which will come again, and continue from there."""
        self._folder = folder
        with self._refusing(), writing(folder):
            for file in folder.glob("events.out.tfevents.*"):
                _cut(file, last_step)
            self._writer = tf.summary.create_file_writer(str(folder))

    def __exit__(self, *error: object) -> None:
        with self._refusing():
            self._writer.close()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Make what TensorFlow cannot write inside an `UnwritableError`."""
        try:
            yield
        except tf.errors.OpError as error:
            raise UnwritableError(f"{self._folder} cannot be written ({error.message.splitlines()[0]})") from error

    def configuration(self, config: Content, run: str) -> None:
        """Write the configuration as text, and its values as hyperparameters."""
        yaml = OmegaConf.to_yaml(config)
        with self._refusing(), self._writer.as_default(step=0):
            tf.summary.text("config", f"```yaml\n{yaml}\n```")
            hparams.hparams(_hyperparameters(config), trial_id=run)

    def epoch(self, result: EpochResult) -> None:
        """Write an epoch's metrics."""
        with self._refusing(), self._writer.as_default(step=result.step):
            for name, value in result.metrics.items():
                tf.summary.scalar(name, value)
            self._writer.flush()

    def figure(self, name: str, figure: Figure, result: EpochResult | None = None) -> None:
        """Write a figure of an epoch as an image."""
        if result is None:
            return
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        with self._refusing(), self._writer.as_default(step=result.step):
            tf.summary.image(name, pixels[np.newaxis])
            self._writer.flush()

    def evaluation(self, values: Mapping[str, float], result: EpochResult) -> None:
        """Write what was measured after an epoch."""
        with self._refusing(), self._writer.as_default(step=result.step):
            for name, value in values.items():
                tf.summary.scalar(f"evaluation/{name}", value)
            self._writer.flush()


def write_evaluation(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Write what was measured of a finished run, in place of what was written so before, as `evaluation/NAME`."""
    with writing(folder):
        before = list(folder.glob(f"events.out.tfevents.*{EVALUATION}"))
        try:
            with tf.summary.create_file_writer(str(folder), filename_suffix=EVALUATION).as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(f"evaluation/{name}", value)
        except tf.errors.OpError as error:
            raise UnwritableError(f"{folder} cannot be written ({error.message.splitlines()[0]})") from error
        for file in before:
            file.unlink()


def _cut(file: Path, last_step: int) -> None:
    """Leave out of an event file what comes after a step, and what a process that was killed left half-written."""
    with replacing(file) as kept, tf.io.TFRecordWriter(str(kept)) as writer, suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(file)):
            if Event.FromString(record.numpy()).step <= last_step:
                writer.write(record.numpy())


def _hyperparameters(config: Content) -> dict[str, float | str]:
    """Return the values of the configuration by their dotted keys, but for figures and evaluation.

    Of one key they have one type, whatever the run, or TensorBoard would hide some of the runs. So the schemas decide:
    where they want a number, what is none, like null, is left out; all else is text.
    """
    numbers = number_keys()
    values: dict[str, float | str] = {}
    for key, value in leaves(config, into_lists=False):
        if key.startswith(("figures.", "evaluation.")):
            continue
        if key not in numbers:
            values[key] = "null" if value is None else str(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = value
    return values
