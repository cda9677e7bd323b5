"""The outer loop: epochs, in plain Python. Nothing in it runs once a step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import UserError
from vae_runner.training.inner import InnerLoop
from vae_runner.training.schedules import LearningRate
from vae_runner.training.stopwatch import Stopwatch

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
        self,
        inner: InnerLoop,
        train: Batches,
        evaluated: dict[str, Batches],
        learning_rate: LearningRate,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._inner = inner
        self._train = train
        self._evaluated = evaluated
        self._learning_rate = learning_rate
        self._stopwatch = stopwatch or Stopwatch()

    def epochs(self, count: int, on_progress: Callable[[Progress], None]) -> Iterator[EpochResult]:
        """Train for `count` epochs; yields after each.

        Raises:
            DivergedError: the loss of a step was not finite.
        """
        for epoch in range(1, count + 1):
            start = time.monotonic()
            metrics, speed = self._train_epoch(epoch, on_progress)
            for split, batches in self._evaluated.items():
                with self._stopwatch.on("evaluation"):
                    means = self._inner.evaluate(batches)
                if not all(math.isfinite(value) for value in means.values()):
                    self._diverge(f"on the {split} images after epoch {epoch}", means.keys(), means.values())
                metrics |= {f"{split}/{name}": value for name, value in means.items()}
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
        first = (epoch - 1) * self._train.steps
        sums = None
        done = 0
        pace = _Pace()
        while done < self._train.steps:
            steps = min(pace.steps_per_call, self._train.steps - done)
            before, start = sums.images if sums else 0, time.perf_counter()
            with self._stopwatch.on("training" if first + done else "first_step"):
                sums = self._inner.train(self._train, elements, first + done, steps, sums)
            pace.note(steps, int(sums.images - before), time.perf_counter() - start)
            if sums.bad_step >= 0:
                self._diverge(
                    f"at step {sums.bad_step + 1} (epoch {epoch})", self._inner.names, sums.bad_terms.tolist()
                )
            done += steps
            means = dict(zip(self._inner.names, (sums.terms / sums.images).tolist(), strict=True))
            on_progress(Progress(epoch, int(sums.images), means, pace.images_per_second))
        return {f"train/{name}": value for name, value in means.items()}, pace.images_per_second

    def _diverge(self, where: str, names: Iterable[str], values: Iterable[float]) -> NoReturn:
        terms = ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))
        raise DivergedError(
            f"the loss stopped being finite {where}: {terms}; "
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
