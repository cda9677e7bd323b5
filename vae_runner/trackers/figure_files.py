"""figures/: each figure as a PNG file."""

from collections.abc import Callable

from matplotlib.figure import Figure

from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult


class FigureFiles(Tracker):
    """Saves figures with `save(figure, name, epoch)`, where the epoch of a figure of the final model is None."""

    def __init__(self, save: Callable[[Figure, str, int | None], None]) -> None:
        self._save = save

    def figure(self, name: str, figure: Figure, result: EpochResult | None = None) -> None:
        """Save a figure."""
        self._save(figure, name, result.epoch if result else None)
