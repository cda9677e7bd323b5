"""TensorBoard: scalars, pictures, the configuration as text, and hyperparameters for comparing the runs of a sweep.

TensorBoard calls a run by the folder of its event files, and puts scalars of one tag, of whatever runs, into one chart.
So the events of a run lie in its own directory, and the metrics `train/loss` and `test/loss` are the tag `loss` in the
directory's folders `train` and `test`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams

from vae_runner.config.choices import named
from vae_runner.config.composition import FILE_KEYS, FOLDER_KEYS
from vae_runner.config.fingerprint import COMPUTED_BY_HARDWARE, NOT_COMPUTED
from vae_runner.config.keys import PRESETS, Content
from vae_runner.config.registry import number_keys
from vae_runner.files.atomic import replacing, writing
from vae_runner.files.events import writing_events
from vae_runner.storage.names import EVENTS, SPLITS, RunPaths
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult

EVALUATION = ".evaluation"  # the end of the name of an event file of vae-evaluate
NO_HYPERPARAMETERS = (*FOLDER_KEYS, *FILE_KEYS, "dataset.url")


class TensorBoard(Tracker):
    """Writes the event files of a run; scalars and pictures lie at the run's optimizer step."""

    def __init__(self, directory: RunPaths, history: Sequence[Mapping[str, float]] = ()) -> None:
        """Delete what the directory has of steps after the history's, which will come again, and continue from there.

        A directory without events of its history, whose rows are those of metrics.csv, gets its metrics anew: that of
        an earlier version has them where TensorBoard does not look for them.
        """
        self._path = directory.path
        self._writers: dict[str, tf.summary.SummaryWriter] = {}  # by the folder in the directory
        with writing_events(self._path), writing(self._path):
            event_files = directory.event_files
            for file in event_files:
                _cut(file, int(history[-1]["step"]) if history else -1)
        if all(file.name.endswith(EVALUATION) for file in event_files):  # vae-evaluate may have been before.
            for row in history:
                self.epoch(EpochResult.of_row(row))

    def __exit__(self, *error: object) -> None:
        with writing_events(self._path):
            for writer in self._writers.values():
                writer.close()

    @contextmanager
    def _writing(self, step: int, folder: str = "") -> Iterator[None]:
        """Write what is summarised inside into a folder of the run's directory, at a step."""
        with writing_events(self._path):
            if folder not in self._writers:
                self._writers[folder] = tf.summary.create_file_writer(str(self._path / folder))
            with self._writers[folder].as_default(step=step):
                yield
            self._writers[folder].flush()

    def configuration(self, config: Content, choices: Mapping[str, str]) -> None:
        """Write the configuration as text, and its values as hyperparameters."""
        yaml = OmegaConf.to_yaml(config)
        with self._writing(0):
            tf.summary.text("config", f"```yaml\n{yaml}\n```")
            # Of a trial without a name TensorBoard shows that of the run.
            hparams.hparams(_hyperparameters(config, choices), trial_id="")

    def epoch(self, result: EpochResult) -> None:
        """Write an epoch's metrics."""
        folders: dict[str, dict[str, float]] = {}
        for name, value in result.metrics.items():
            split, _, metric = name.partition("/")
            folder, tag = (split, metric) if split in SPLITS else ("", name)
            folders.setdefault(folder, {})[tag] = value
        for folder, values in folders.items():
            with self._writing(result.step, folder):
                for tag, value in values.items():
                    tf.summary.scalar(tag, value)

    def figure(self, name: str, figure: Figure, result: EpochResult | None = None) -> None:
        """Write a figure of an epoch as an image."""
        if result is None:
            return
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        with self._writing(result.step):
            tf.summary.image(name, pixels[np.newaxis])

    def evaluation(self, values: Mapping[str, float], result: EpochResult) -> None:
        """Write what was measured after an epoch."""
        with self._writing(result.step):
            _summarise(values)


def write_evaluation(run: Path, step: int, values: Mapping[str, float]) -> None:
    """Write what was measured of the finished run in a directory, in place of what was written so before."""
    with writing(run), writing_events(run):
        before = list(run.glob(f"{EVENTS}{EVALUATION}"))
        with tf.summary.create_file_writer(str(run), filename_suffix=EVALUATION).as_default(step=step):
            _summarise(values)
        for file in before:
            file.unlink()


def _summarise(values: Mapping[str, float]) -> None:
    """Write what was measured where, and at the step at which, events are written now."""
    for name, value in values.items():
        tf.summary.scalar(f"evaluation/{name}", value)


def _cut(file: Path, last_step: int) -> None:
    """Leave out of an event file what comes after a step, and what a process that was killed left half-written."""
    with replacing(file) as kept, tf.io.TFRecordWriter(str(kept)) as writer, suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(file)):
            if Event.FromString(record.numpy()).step <= last_step:
                writer.write(record.numpy())


def _hyperparameters(config: Content, choices: Mapping[str, str]) -> dict[str, float | str]:
    """Return by its dotted key each value of the configuration that decides what the run computes, but for paths.

    A part is called by its choice, in place of its `_target_`. Of one key the values have one type, whatever the run,
    or TensorBoard would hide some of the runs. So the schemas decide: where they want a number, what is none, like
    null, is left out; all else is text.

    TensorBoard shows what differs among runs first, and otherwise sorts by the names. A space, which is not shown,
    before those without a dot brings the parts, and latent, epochs, batch_size and seed, before the keys of parts.
    """
    numbers = number_keys()
    values: dict[str, float | str] = {}
    for key, value in named(config, choices, PRESETS).items():
        group, _, last = key.rpartition(".")
        if group == "hardware" and last not in COMPUTED_BY_HARDWARE:
            continue
        if key.startswith(NOT_COMPUTED) or key in NO_HYPERPARAMETERS or last == "_partial_":
            continue
        name = key if group else f" {key}"
        if key not in numbers:
            values[name] = "null" if value is None else str(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = value
    return values
