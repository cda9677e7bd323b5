"""A profile of a few steps, which TensorBoard shows: where their time goes, operation by operation."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import tensorflow as tf

from vae_runner.errors import UserError
from vae_runner.files.events import writing_events

log = logging.getLogger(__name__)

STEPS = 20
CALLS_BEFORE = 2  # of the compiled loop: the first one traces it, and the next may still wait for images


class Profile:
    """Profiles steps of training once, as soon as the compiled loop has begun to run as it will."""

    def __init__(self, folder: Path) -> None:
        """Write to `folder`, where TensorBoard looks for it."""
        self._folder = folder
        self._calls = 0
        self._is_done = False

    def steps_due(self, left: int, steps_per_epoch: int) -> int:
        """Return of how many steps a profile is to begin now, where so many are `left` in the epoch; 0 for none."""
        is_due = self._calls >= CALLS_BEFORE and left >= min(STEPS, steps_per_epoch - CALLS_BEFORE)
        self._calls += 1
        return min(STEPS, left) if is_due and not self._is_done else 0

    @contextmanager
    def recorded(self, steps_before: int, steps: int) -> Iterator[None]:
        """Profile what is inside, so many steps, after `steps_before` of the run.

        Raises:
            UnwritableError: there is no room for the profile.
            UserError: this process is being profiled already.
        """
        self._is_done = True
        with writing_events(self._folder):
            try:
                tf.profiler.experimental.start(str(self._folder))
            except tf.errors.AlreadyExistsError as error:
                raise UserError("profile=true: another profiler runs in this process: stop it first") from error
        try:
            yield
        finally:
            with writing_events(self._folder):
                tf.profiler.experimental.stop()
        log.info(
            "Profile: of steps %d to %d; tensorboard --logdir=%s shows it, with the plugin that pip install xprof adds",
            steps_before + 1, steps_before + steps, self._folder,
        )  # fmt: skip


def step_marked(number: int) -> AbstractContextManager[object]:
    """Mark what is inside as one step of training in a profile."""
    return tf.profiler.experimental.Trace("train", step_num=number, _r=1)
