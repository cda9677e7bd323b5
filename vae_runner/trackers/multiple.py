"""All trackers of a run as one."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Self

from matplotlib.figure import Figure

from vae_runner.config.keys import Content
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult, Progress


class Trackers(Tracker):
    """Hands everything to each of several trackers, in their order; the last is closed first."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            for tracker in self._trackers:
                entered.enter_context(tracker)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()

    def configuration(self, config: Content, choices: Mapping[str, str]) -> None:
        """Hand on the configuration."""
        for tracker in self._trackers:
            tracker.configuration(config, choices)

    def progress(self, progress: Progress) -> None:
        """Hand on how far training is."""
        for tracker in self._trackers:
            tracker.progress(progress)

    def epoch(self, result: EpochResult) -> None:
        """Hand on an epoch's result."""
        for tracker in self._trackers:
            tracker.epoch(result)

    def figure(self, name: str, figure: Figure, result: EpochResult | None = None) -> None:
        """Hand on a figure."""
        for tracker in self._trackers:
            tracker.figure(name, figure, result)

    def evaluation(self, values: Mapping[str, float], result: EpochResult) -> None:
        """Hand on what was measured after an epoch."""
        for tracker in self._trackers:
            tracker.evaluation(values, result)
