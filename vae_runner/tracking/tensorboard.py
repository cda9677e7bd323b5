"""TensorBoard: scalars, pictures, the configuration as text, and hyperparameters for comparing the runs of a sweep."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig
from tensorboard.plugins.hparams import api as hparams

from vae_runner.training.outer import EpochResult


class TensorBoard:
    """Writes the event files of a run; scalars and pictures lie at the run's optimizer step."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()

    def configuration(self, yaml: str, config: DictConfig, trial: str) -> None:
        """The configuration as text, and its scalar values as hyperparameters."""
        with self._writer.as_default(step=0):
            tf.summary.text("config", f"```yaml\n{yaml}\n```")
            hparams.hparams(_scalars(config), trial_id=trial)

    def epoch(self, result: EpochResult) -> None:
        """An epoch's metrics."""
        with self._writer.as_default(step=result.step):
            for name, value in result.metrics.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def picture(self, name: str, figure: Figure, step: int) -> None:
        """A figure as an image."""
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        with self._writer.as_default(step=step):
            tf.summary.image(name, pixels[np.newaxis])


def _scalars(node: DictConfig, prefix: str = "") -> dict[str, Any]:
    """The values of the configuration by their dotted keys, as TensorBoard takes them; without the figures."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        path = prefix + str(key)
        if isinstance(value, DictConfig):
            values |= {} if path == "figures" else _scalars(value, f"{path}.")
        elif value is not None:
            values[path] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
