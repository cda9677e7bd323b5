"""The outer loop: epochs, in plain Python, which runs once for many steps."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Self

import numpy as np

from vae_runner.datasets.pipeline import Batches, Share
from vae_runner.errors import UserError
from vae_runner.training.inner import InnerLoop, Sums
from vae_runner.training.profiling import Profile, step_marked
from vae_runner.training.schedules import LearningRate
from vae_runner.training.stopwatch import Stopwatch

SECONDS_PER_CALL = 0.5  # of the compiled loop: how often the progress bar moves and stop requests are checked
MAX_STEPS_PER_CALL = 1000
SKIPPED_STEPS = "train/skipped_steps"  # of an epoch's, with optimizer.skip_norm_above


class DivergedError(UserError):
    """The loss stopped being finite."""


@dataclass(frozen=True)
class Position:
    """Where training stands: what, beside weights and optimizer, decides how it continues."""

    epoch: int = 1  # the one under way
    steps: int = 0  # taken in the epoch
    sums: Sums | None = None  # over these steps
    seconds: float = 0.0  # spent on the epoch
    images_per_second: float = 0.0  # in the epoch so far


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

    @property
    def row(self) -> dict[str, float]:
        """Return its row of the metrics table."""
        return {"epoch": self.epoch, "step": self.step, **self.metrics}

    @classmethod
    def of_row(cls, row: Mapping[str, float]) -> Self:
        """Return the result that has this row."""
        metrics = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        return cls(int(row["epoch"]), int(row["step"]), metrics)


class Trainer:
    """The inner loop, run epoch by epoch, with an evaluation after each.

    `position` and `history` can be set before the first epoch, to continue where another trainer was. Each call of the
    compiled loop is inside `shielded()`, with the update of the position after it, so that weights and position agree
    whenever a stop request is answered. `profile`, too, can be set, to record one.
    """

    def __init__(
        self,
        inner: InnerLoop,
        train: Batches,
        evaluated: dict[str, Batches],
        learning_rate: LearningRate,
        stopwatch: Stopwatch | None = None,
        shielded: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.position = Position()
        self.profile: Profile | None = None
        self.history: list[dict[str, float]] = []  # the rows of the metrics table, for each epoch that was evaluated
        self._inner = inner
        self._train = train
        self._evaluated = evaluated
        self._learning_rate = learning_rate
        self._stopwatch = stopwatch or Stopwatch()
        self._shielded = shielded
        self._shares: dict[str, Iterator[Share]] = {}  # by the split
        self._traced = False

    @property
    def step(self) -> int:
        """Return the number of optimizer steps since the beginning."""
        return (self.position.epoch - 1) * self._train.steps + self.position.steps

    @property
    def images_per_epoch(self) -> int:
        """Return how many images an epoch trains on."""
        return self._train.count

    def run_epoch(self, on_progress: Callable[[Progress], object]) -> EpochResult:
        """Train to the end of the epoch under way, and evaluate; raise DivergedError for a loss that is not finite."""
        metrics = self._train_epoch(on_progress)
        if (skipped := self._inner.skipped_steps) is not None:
            metrics[SKIPPED_STEPS] = float(skipped) - sum(row[SKIPPED_STEPS] for row in self.history)
        before = self.position
        start = time.monotonic()
        with self._stopwatch.on("evaluation"):
            self._estimate_state()
        for split, batches in self._evaluated.items():
            with self._stopwatch.on("evaluation"):
                means = self._evaluate(split, batches)
            if not all(math.isfinite(value) for value in means.values()):
                self._diverge(f"on the {split} images after epoch {before.epoch}", means.keys(), means.values())
            metrics |= {f"{split}/{name}": value for name, value in means.items()}
        metrics |= {
            "learning_rate": self._learning_rate.after(max(self._inner.steps_taken, 1)),
            "train/images_per_second": before.images_per_second,
            "seconds": before.seconds + time.monotonic() - start,
        }
        result = EpochResult(before.epoch, self.step, metrics)
        self.history.append(result.row)
        return result

    def try_step(self) -> None:
        """Take a step of training, and evaluate a batch of each split, for what that needs; no epoch is to follow."""
        self._inner.train(self._train, self._train.shares(), 0, 1)
        for batches in self._evaluated.values():
            self._inner.evaluate(batches, batches.shares(), 0, 1)

    def next_epoch(self) -> None:
        """Begin the next epoch, when all that belongs to this one is done."""
        self.position = Position(self.position.epoch + 1)

    def _train_epoch(self, on_progress: Callable[[Progress], object]) -> dict[str, float]:
        """Train on the rest of the epoch; return the epoch's mean loss and terms as train/…."""
        shares = self._shares_of("train", self._train, self.position.epoch - 1, self.position.steps)
        pace = _Pace(self.position.images_per_second)
        start = time.monotonic() - self.position.seconds

        def advance(steps: int) -> None:
            with self._shielded():
                self._call(shares, steps, pace, start)
            self._check(self._sums)
            means = self._inner.means(self._sums)
            on_progress(Progress(self.position.epoch, int(self._sums.images), means, pace.images_per_second))

        while left := self._train.steps - self.position.steps:
            if self.profile and (profiled := self.profile.steps_due(left, self._train.steps)):
                with self.profile.recorded(self.step, profiled):
                    for _ in range(profiled):
                        with step_marked(self.step):
                            advance(1)
            else:
                advance(min(pace.steps_per_call, left))
        return {f"train/{name}": value for name, value in self._inner.means(self._sums).items()}

    @property
    def _sums(self) -> Sums:
        """Return the sums of the epoch under way."""
        return self.position.sums or Sums.zero(len(self._inner.names))

    def _call(self, shares: Iterator[Share], steps: int, pace: "_Pace", epoch_start: float) -> None:
        """Make one call of the compiled loop, and update the position."""
        before, start = self.position, time.perf_counter()
        with self._stopwatch.on("training" if self._traced else "first_step"):
            sums = self._inner.train(self._train, shares, self.step, steps, self._sums)
        self._traced = True
        pace.note(steps, sums.images - self._sums.images, self._inner.all_reduce_max(time.perf_counter() - start))
        self.position = Position(
            before.epoch, before.steps + steps, sums, time.monotonic() - epoch_start, pace.images_per_second
        )

    def _shares_of(self, name: str, batches: Batches, epoch: int = 0, first: int = 0) -> Iterator[Share]:
        """Return the shares of this name, which begin with batch `first` of `epoch`, and continue in later calls."""
        if name not in self._shares:
            with self._shielded():
                self._shares[name] = batches.shares(epoch, first)
        return self._shares[name]

    def _evaluate(self, split: str, batches: Batches) -> dict[str, float]:
        """Return means over a split."""
        shares = self._shares_of(split, batches)
        return self._inner.means(self._in_short_calls(self._inner.evaluate, batches, shares, 0, batches.steps))

    def _estimate_state(self) -> None:
        """Let what moves in training, and is no weight, be that of the averaged weights, if there are any."""
        averages = self._inner.averages
        if averages is None:
            return
        with self._shielded():
            averages.copy_state()
        if not averages.has_state:
            return
        begin = divmod((self.position.epoch - 1) * averages.batches, self._train.steps)
        shares = self._shares_of("averages", self._train, *begin)
        before, weights = self._inner.loss_state.values(), [np.array(weight) for weight in averages.weights]
        try:
            self._in_short_calls(self._inner.estimate, self._train, shares, self.step, averages.batches)
        finally:
            with self._shielded():
                self._inner.loss_state.assign(before)
                # A posterior may assign weights too, as a codebook that is trained and restarts its rarest vectors.
                for weight, value in zip(averages.weights, weights, strict=True):
                    weight.assign(value)

    def _in_short_calls(
        self,
        compute: Callable[[Batches, Iterator[Share], int, int, Sums | None], Sums],
        batches: Batches,
        shares: Iterator[Share],
        first: int,
        count: int,
    ) -> Sums:
        """Return the sums over `count` batches, numbered from `first`: between two calls stop requests are answered."""
        pace = _Pace()
        sums: Sums | None = None
        done = 0
        while done < count:
            steps, start = min(pace.steps_per_call, count - done), time.perf_counter()
            with self._shielded():
                sums = compute(batches, shares, first + done, steps, sums)
            pace.note(steps, sums.images, self._inner.all_reduce_max(time.perf_counter() - start))
            done += steps
        assert sums is not None, "there is a batch at least"
        return sums

    def _check(self, sums: Sums) -> None:
        if sums.bad_step >= 0:
            where = f"at step {sums.bad_step + 1} (epoch {self.position.epoch})"
            self._diverge(where, self._inner.names, sums.bad_terms.tolist())

    def _diverge(self, where: str, names: Iterable[str], values: Iterable[float]) -> NoReturn:
        terms = ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))
        raise DivergedError(
            f"the loss stopped being finite {where}: {terms}; "
            "try a lower optimizer.learning_rate, or optimizer.global_clipnorm=1"
        )


class _Pace:
    """The speed of an epoch, and the number of steps for the next call that follows from it.

    The first call is a single step, and counts only until there is a second: it includes the wait for the first batch
    and, in the first epoch, the tracing.
    """

    def __init__(self, images_per_second: float = 0.0) -> None:
        self.steps_per_call = 1
        self.images_per_second = images_per_second
        self._calls = 0
        self._images = 0.0
        self._seconds = 0.0

    def note(self, steps: int, images: float, seconds: float) -> None:
        """Record a call: so many steps on so many images in so many seconds."""
        if self._calls <= 1:
            self._images, self._seconds = 0.0, 0.0
        self._images, self._seconds = self._images + images, self._seconds + seconds
        self.images_per_second = self._images / self._seconds
        if self._calls > 0:
            self.steps_per_call = min(max(round(SECONDS_PER_CALL * steps / seconds), 1), MAX_STEPS_PER_CALL)
        self._calls += 1
