"""The checkpoints of a run, a file each."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_runner.files.atomic import write_atomic, writing
from vae_runner.files.untrusted import DamagedError, read, readable

if TYPE_CHECKING:  # The commands import this before they import TensorFlow.
    from vae_runner.training.checkpoints import Checkpoint

log = logging.getLogger(__name__)


class CheckpointFiles:
    """The folder of a run's checkpoints, which may not be there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, content: bytes) -> None:
        """Write the content of a checkpoint, atomically, under its step."""
        write_atomic(self._folder / f"step_{step:010d}.npz", content)

    def prune(self, newest: int, steps: Sequence[int]) -> None:
        """Delete all but the newest so many, and those of these steps."""
        for step, file in self._by_step()[newest:]:
            if step not in steps:
                with writing(file):
                    file.unlink()

    def newest(self) -> "Checkpoint | None":
        """Return the newest intact checkpoint, or None where there is none; damaged ones are named and quarantined."""
        files = [file for _, file in self._by_step()]
        for file in files:
            then = "There is none before it" if file == files[-1] else "The checkpoint before it is used"
            if (checkpoint := _intact(file, then)) is not None:
                return checkpoint
        return None

    def of_step(self, step: int) -> "Checkpoint | None":
        """Return the checkpoint at an optimizer step, or None where there is none that is intact."""
        file = dict(self._by_step()).get(step)
        return _intact(file, "The models are of the last epoch") if file else None

    @property
    def newest_step(self) -> int:
        """Return the optimizer step of the newest checkpoint, or 0 where there is none."""
        return next((step for step, _ in self._by_step()), 0)

    def _by_step(self) -> list[tuple[int, Path]]:
        """Return the checkpoints with their steps, the newest first."""
        try:
            with readable(self._folder):
                files = list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        named = ((re.fullmatch(r"step_(\d{10})\.npz", file.name), file) for file in files)
        return sorted(((int(name[1]), file) for name, file in named if name), reverse=True)


def _intact(file: Path, then: str) -> "Checkpoint | None":
    """Return the checkpoint in a file; None where it is damaged: then it is named, with what follows, and set aside."""
    from vae_runner.training.checkpoints import Checkpoint

    try:
        return Checkpoint.from_bytes(read(file))
    except DamagedError as error:
        log.warning("%s is damaged: %s. %s.", file, error, then)
        with writing(file):
            file.replace(file.with_name(f"damaged.{file.name}"))
    return None
