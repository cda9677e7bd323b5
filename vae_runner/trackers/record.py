"""run.json, kept current."""

import os
import platform
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

import vae_runner
from vae_runner.files.untrusted import JsonObject
from vae_runner.storage.run_info import RERUN_OF, timestamp
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult

KEPT = ("started", RERUN_OF)  # of how a run began, when it is resumed


class Record(Tracker):
    """Keeps run.json, which says at any moment what a run is, how far it is, where its time went, and how it ended."""

    def __init__(
        self,
        write: Callable[[Mapping[str, object]], None],
        seconds: Mapping[str, float],
        before: JsonObject | None = None,
        surroundings: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Write with `write`; `before` is what a resumed run was when it stopped.

        `surroundings` returns entries of what the process runs in, as far as they are known by then.
        """
        self._surroundings = surroundings
        self._write = write
        self._start = time.time()
        self._earlier = self._start - vae_runner.STARTED
        self._before: float = (before or {}).get("seconds", 0.0)
        self._seconds = seconds  # by what they went into; whoever measures adds to it
        self.info: dict[str, object] = {
            "status": "running",
            "started": timestamp(self._start),
            "process": {"pid": os.getpid(), "host": platform.node()},
            "versions": {
                "vae_runner": vae_runner.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        self.has_begun = False  # whether training has
        # A finished run that is resumed is finished until training begins: a refusal leaves it as it was.
        self._finished = before if before is not None and before.get("status") == "finished" else None
        if before is not None:  # what the run was when it stopped
            resumed = [*before.get("resumed", []), self.info["started"]]
            self.info |= {name: before[name] for name in (*KEPT, "epoch", "step", "metrics") if name in before}
            self.info["resumed"] = resumed
        self.note()

    def note(self, **entries: object) -> None:
        """Add or replace entries."""
        # Of a finished run, which a refusal leaves as it was, they are taken when training begins.
        self.info |= {**({} if self._finished is not None else self._surroundings()), **entries}
        self.info["seconds"] = round(self._before + time.time() - self._start, 3)
        self._write_all()

    def _write_all(self) -> None:
        timings = {"earlier": self._earlier, **self._seconds}
        self._write(self.info | {"timings": {what: round(seconds, 3) for what, seconds in timings.items()}})

    @property
    def was_finished(self) -> bool:
        """Return whether this is a finished run whose training has not begun again."""
        return self._finished is not None

    def epoch(self, result: EpochResult) -> None:
        """Note how far the run is."""
        self.note(epoch=result.epoch, step=result.step, metrics=result.metrics)

    def training_begins(self) -> None:
        """Take a finished run for one under way again."""
        self.has_begun, self._finished = True, None

    def end(self, status: str, **entries: object) -> None:
        """Record how the run ended: "finished", "failed", "interrupted" or "pruned"."""
        if self._finished is not None:
            self._write(self._finished)
            return
        self.note(status=status, ended=timestamp(time.time()), **entries)

    def complete(self) -> None:
        """Add what has become known of the surroundings since the end, if anything has."""
        if self._finished is None and (known := {**self.info, **self._surroundings()}) != self.info:
            self.info = known
            self._write_all()
