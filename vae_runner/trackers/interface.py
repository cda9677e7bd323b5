"""What a tracker is: where numbers and pictures go while a run trains."""

from collections.abc import Mapping
from typing import Self

from matplotlib.figure import Figure

from vae_runner.config.keys import Content
from vae_runner.training.outer import EpochResult, Progress


class Tracker:
    """A place for what a run measures and draws. What a back end has no use for, it leaves to these methods."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left; training is over, however it ended."""

    def configuration(self, config: Content, choices: Mapping[str, str]) -> None:
        """Take the configuration of a run that begins, and what was chosen in each group."""

    def progress(self, progress: Progress) -> None:
        """Take how far training is, between two calls of the compiled loop."""

    def epoch(self, result: EpochResult) -> None:
        """Take what is known at the end of an epoch."""

    def figure(self, name: str, figure: Figure, result: EpochResult | None = None) -> None:
        """Take a figure that was drawn after the epoch of this result; without one, of the final model."""

    def evaluation(self, values: Mapping[str, float], result: EpochResult) -> None:
        """Take what was measured of the model, by name, after the epoch of this result."""
