"""Learning-rate schedules: each a function from the epoch to a factor of the highest learning rate.

`epoch` counts the epochs behind, with the fraction of the current one; `epochs` is how many there will be.
"""

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

Schedule = Callable[[tf.Tensor, float], tf.Tensor]


def constant(epoch: tf.Tensor, epochs: float, *, warmup_epochs: float = 0.0) -> tf.Tensor:
    """Return 1, after the warm-up."""
    return warmup(epoch, warmup_epochs)


def cosine(epoch: tf.Tensor, epochs: float, *, warmup_epochs: float = 0.0, final_factor: float = 0.0) -> tf.Tensor:
    """Return half a cosine from 1 to `final_factor` (Loshchilov & Hutter, 2017, equation 5, without restarts)."""
    progress = tf.clip_by_value((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 0.0, 1.0)
    return warmup(epoch, warmup_epochs) * (final_factor + (1 - final_factor) * (1 + tf.cos(math.pi * progress)) / 2)


def exponential(epoch: tf.Tensor, epochs: float, *, warmup_epochs: float = 0.0, decay: float = 0.95) -> tf.Tensor:
    """Return `decay` to the power of the epochs since the warm-up."""
    return warmup(epoch, warmup_epochs) * decay ** tf.maximum(epoch - warmup_epochs, 0.0)


def steps(
    epoch: tf.Tensor, _: float, *, warmup_epochs: float = 0.0, epochs: Sequence[float], factor: float
) -> tf.Tensor:
    """Return `factor` to the power of how many of `epochs`, counted from the beginning of the run, are behind."""
    behind = tf.reduce_sum(tf.cast(epoch >= tf.constant(epochs, tf.float32), tf.float32))
    return warmup(epoch, warmup_epochs) * factor**behind


def warmup(epoch: tf.Tensor, warmup_epochs: float) -> tf.Tensor:
    """Return a factor that grows linearly from 0 to 1 over the first `warmup_epochs` epochs."""
    return tf.minimum(epoch / warmup_epochs, 1.0) if warmup_epochs > 0 else tf.ones_like(epoch)


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step: `peak` times the schedule's factor for the epoch in the middle of the step."""

    def __init__(self, peak: float, schedule: Schedule, epochs: int, steps_per_epoch: int) -> None:
        super().__init__()
        self._peak, self._schedule = peak, schedule
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the learning rate of a step, counted from 0."""
        epoch = tf.cast((tf.cast(step, tf.float64) + 0.5) / self._steps_per_epoch, tf.float32)
        return self._peak * self._schedule(epoch, self._epochs)

    def after(self, steps: int) -> float:
        """Return the learning rate of the last of so many steps."""
        return float(self(steps - 1))
