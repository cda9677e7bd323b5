"""The outer loop: epochs, in plain Python. Nothing in it runs once a step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import UserError
from vae_runner.training.inner import InnerLoop
from vae_runner.training.schedules import LearningRate

SECONDS_PER_CALL = 0.5  # of the compiled loop: how often the progress bar moves and a signal is heard
MAX_STEPS_PER_CALL = 1000


class DivergedError(UserError):
    """The loss stopped being finite."""


class Progress(NamedTuple):
    """How far training is, between two calls of the compiled loop."""

    epoch: int  # from 1
    images: int  # done in this epoch
    terms: dict[str, float]  # means over the epoch so far
    images_per_second: float


@dataclass(frozen=True)
class EpochResult:
    """What is known at the end of an epoch."""

    epoch: int  # from 1
    step: int  # optimizer steps since the beginning
    metrics: dict[str, float]  # train/loss, …, test/loss, …, learning_rate, train/images_per_second, seconds


class Trainer:
    """Runs the inner loop epoch by epoch, and evaluates after each."""

    def __init__(
        self, inner: InnerLoop, train: Batches, evaluated: dict[str, Batches], learning_rate: LearningRate
    ) -> None:
        self._inner = inner
        self._train = train
        self._evaluated = evaluated
        self._learning_rate = learning_rate

    def epochs(self, count: int, on_progress: Callable[[Progress], None]) -> Iterator[EpochResult]:
        """Train for `count` epochs; yields after each.

        Raises:
            DivergedError: the loss of a step was not finite.
        """
        for epoch in range(1, count + 1):
            start = time.monotonic()
            metrics, speed = self._train_epoch(epoch, on_progress)
            for split, batches in self._evaluated.items():
                metrics |= {f"{split}/{name}": value for name, value in self._inner.evaluate(batches).items()}
            step = epoch * self._train.steps
            metrics |= {
                "learning_rate": self._learning_rate.after(step),
                "train/images_per_second": speed,
                "seconds": time.monotonic() - start,
            }
            yield EpochResult(epoch, step, metrics)

    def _train_epoch(self, epoch: int, on_progress: Callable[[Progress], None]) -> tuple[dict[str, float], float]:
        """One epoch's mean loss and terms as train/…, and its speed in images a second."""
        elements = self._train.epoch(epoch - 1)
        sums = np.zeros(len(self._inner.names), np.float64)
        done = images = 0
        pace = _Pace()
        while done < self._train.steps:
            steps = min(pace.steps_per_call, self._train.steps - done)
            start = time.perf_counter()
            result = self._inner.train(self._train, elements, (epoch - 1) * self._train.steps + done, steps)
            pace.note(steps, int(result.images), time.perf_counter() - start)
            if result.bad_step >= 0:
                self._diverge(result.bad_step, result.bad_terms)
            done, images, sums = done + steps, images + int(result.images), sums + result.terms
            means = dict(zip(self._inner.names, (sums / images).tolist(), strict=True))
            on_progress(Progress(epoch, images, means, pace.images_per_second))
        return {f"train/{name}": value for name, value in means.items()}, pace.images_per_second

    def _diverge(self, step: int, values: np.ndarray[Any, Any]) -> None:
        terms = ", ".join(f"{name} {value:g}" for name, value in zip(self._inner.names, values.tolist(), strict=True))
        raise DivergedError(
            f"the loss stopped being finite at step {step + 1} (epoch {step // self._train.steps + 1}): {terms}; "
            "try a lower optimizer.learning_rate, or optimizer.global_clipnorm=1"
        )


class _Pace:
    """How fast an epoch goes, and how many steps to take in a call.

    The first call is a single step and counts only as long as there is no other: it waits for the first batch and,
    in the first epoch, for the tracing.
    """

    def __init__(self) -> None:
        self.steps_per_call = 1
        self._calls = 0
        self._images = 0
        self._seconds = 0.0

    def note(self, steps: int, images: int, seconds: float) -> None:
        """A call took so many steps on so many images in so many seconds."""
        if self._calls <= 1:
            self._images, self._seconds = 0, 0.0
        self._images, self._seconds = self._images + images, self._seconds + seconds
        if self._calls > 0:
            wanted = round(SECONDS_PER_CALL * steps / seconds)
            self.steps_per_call = min(max(wanted, 1), MAX_STEPS_PER_CALL)
        self._calls += 1

    @property
    def images_per_second(self) -> float:
        return self._images / self._seconds
