"""Checkpoints: all that decides how a run continues, in one file with a checksum.

A file is a NumPy `.npz` (never a pickle) followed by its SHA-256. Weights and optimizer are arrays; position, metrics
so far and configuration are JSON. What follows from these (early stopping, schedules, noise, the order of images) is
not stored.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Fingerprint, is_fingerprint
from vae_runner.errors import UserError
from vae_runner.files.npz import npz
from vae_runner.files.untrusted import DamagedError, are_numbers, arrays, json_object, reading
from vae_runner.losses.base import Loss
from vae_runner.models.variables import Variables
from vae_runner.training.inner import Sums
from vae_runner.training.outer import Position, Trainer
from vae_runner.training.schema import CheckpointConfig
from vae_runner.training.selection import Row, Selection
from vae_runner.training.stopwatch import Stopwatch

FORMAT = 1
DIGEST_BYTES = hashlib.sha256().digest_size
STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment."""

    position: Position
    rows: list[dict[str, float]]  # of the metrics table, for the epochs before
    seconds: dict[str, float]  # of the stopwatch
    config: dict[str, object]
    variables: dict[str, NDArray[np.generic]]
    data: Fingerprint = field(default_factory=dict)  # the dataset's fingerprint; older checkpoints have none
    frozen: dict[str, str] = field(default_factory=dict)  # hashes of the weights of the loss's networks that stay

    def to_bytes(self) -> bytes:
        """Return the content of a checkpoint's file."""
        position = self.position
        state = {
            "format": FORMAT,
            "epoch": position.epoch,
            "steps": position.steps,
            "epoch_seconds": position.seconds,
            "images_per_second": position.images_per_second,
            "images": position.sums.images if position.sums else None,
            "rows": self.rows,
            "seconds": self.seconds,
            "config": self.config,
            "data": self.data,
            "frozen": self.frozen,
        }
        arrays = {STATE: np.frombuffer(json.dumps(state, allow_nan=False).encode(), np.uint8), **self.variables}
        if position.sums:
            arrays["sums"] = position.sums.terms
        content = npz(arrays)
        return content + hashlib.sha256(content).digest()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Checkpoint":
        """Return the checkpoint of which `to_bytes` made the content; raise DamagedError for any other content."""
        view = memoryview(content)
        if hashlib.sha256(view[:-DIGEST_BYTES]).digest() != view[-DIGEST_BYTES:]:
            raise DamagedError("its content does not have the checksum at its end")
        variables = arrays(content)
        with reading():
            state = json_object(variables.pop(STATE).tobytes())
            if state["format"] != FORMAT:
                raise DamagedError(f"it is of format {state['format']}, and this version reads format {FORMAT}")
            sums = None
            if state["images"] is not None:
                sums = Sums(variables.pop("sums"), float(state["images"]), -1, np.zeros(0))
            position = Position(
                int(state["epoch"]),
                int(state["steps"]),
                sums,
                float(state["epoch_seconds"]),
                float(state["images_per_second"]),
            )
            rows, seconds = list(state["rows"]), dict(state["seconds"])
            if not all(are_numbers(row) and row["epoch"] < position.epoch and row["step"] >= 0 for row in rows):
                raise DamagedError("its rows are not those of epochs before")
            if not are_numbers(seconds) or position.epoch < 1 or position.steps < 0:
                raise DamagedError("its numbers are not those of a run")
            data = dict(state.get("data", {}))
            if not is_fingerprint(data):
                raise DamagedError("it does not say which images it was made with")
            frozen = {str(key): str(digest) for key, digest in state.get("frozen", {}).items()}
            return cls(position, rows, seconds, dict(state["config"]), variables, data, frozen)


@dataclass(frozen=True)
class TrainingState:
    """The state of a run, which a checkpoint holds."""

    trainer: Trainer
    variables: Variables
    stopwatch: Stopwatch
    config: dict[str, object]  # resolved
    data: Fingerprint  # the dataset's fingerprint
    loss: Loss

    def capture(self) -> tuple[int, Checkpoint]:
        """Return the current step and checkpoint, without the row of an epoch whose figures are not drawn yet."""
        position = self.trainer.position
        rows = [dict(row) for row in self.trainer.history if row["epoch"] < position.epoch]
        seconds, values = dict(self.stopwatch.seconds), self.variables.values()
        checkpoint = Checkpoint(position, rows, seconds, self.config, values, self.data, self.loss.frozen)
        return self.trainer.step, checkpoint

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the run back to where the checkpoint was captured.

        Raises:
            UserError: it is of other variables, or of a loss with other networks.
        """
        for key, now in self.loss.frozen.items():
            if key not in checkpoint.frozen:
                raise UserError(
                    f"the checkpoint does not say which network loss.{key} had: it is of an older version; start a new "
                    "run"
                )
            if (then := checkpoint.frozen[key]) != now:
                raise UserError(
                    f"the network of loss.{key} has other weights than when the run began (hash {then} then, {now} "
                    "now): bring those back, or start a new run"
                )
        self.take_weights(checkpoint)
        self.trainer.position = checkpoint.position
        self.trainer.history[:] = checkpoint.rows
        self.stopwatch.seconds.update(checkpoint.seconds)

    def take_weights(self, checkpoint: Checkpoint) -> None:
        """Give the networks the weights of a checkpoint; refuse one of other variables."""
        if mismatch := self.variables.mismatch(checkpoint.variables):
            raise UserError(
                f"the checkpoint is of other variables: {mismatch}; a resumed run needs the networks and the optimizer "
                "it began with, hardware.precision=mixed_float16 and its loss scale included"
            )
        self.variables.assign(checkpoint.variables)


class CheckpointStore(Protocol):
    """A place for checkpoints: the run directory."""

    def save(self, step: int, content: bytes) -> None:
        """Write the content of a checkpoint, atomically, under its step."""

    def prune(self, newest: int, steps: Sequence[int]) -> None:
        """Delete all checkpoints but the `newest` newest ones and those of `steps`."""


class Checkpoints:
    """The policy of when a checkpoint is written, and which are kept."""

    def __init__(
        self,
        config: CheckpointConfig,
        store: CheckpointStore,
        capture: Callable[[], tuple[int, Checkpoint]],
        selection: Selection,
    ) -> None:
        self._config = config
        self._selection = selection
        self._store = store
        self._capture = capture
        self._written = time.monotonic()

    def within_epoch(self) -> None:
        """Write a checkpoint if the last one is `every_minutes` old."""
        minutes = self._config.every_minutes
        if minutes and time.monotonic() - self._written >= 60 * minutes:
            self.write()

    def after_epoch(self, rows: Sequence[Row], last: bool) -> None:
        """Write a checkpoint if one is due, or the epoch is the best so far or the last; `rows` end with its row."""
        due = self._config.every and rows[-1]["epoch"] % self._config.every == 0
        if last or due or self._selection.best(rows) is rows[-1]:
            self.write()

    @contextmanager
    def when_interrupted(self) -> Iterator[None]:
        """Write a checkpoint if a signal ends what is inside."""
        try:
            yield
        except KeyboardInterrupt:
            self.write()
            raise

    def write(self) -> None:
        """Write a checkpoint, and delete those that are not to be kept."""
        step, checkpoint = self._capture()
        self._store.save(step, checkpoint.to_bytes())
        self._written = time.monotonic()
        best = self._selection.best(checkpoint.rows)
        self._store.prune(self._config.keep, [] if best is None else [int(best["step"])])
