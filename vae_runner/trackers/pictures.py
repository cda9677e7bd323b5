"""Figures, drawn when they are due, as PNG files and in TensorBoard."""

from collections.abc import Callable

from omegaconf import DictConfig

from vae_runner.config.instantiation import build
from vae_runner.figures.trained import Trained
from vae_runner.trackers.tensorboard import TensorBoard


class Pictures:
    """Draws the configured figures for `save(figure, name, epoch)`, and the periodic ones for TensorBoard too."""

    def __init__(self, config: DictConfig, save: Callable[..., None], board: TensorBoard) -> None:
        self._every = config.every
        self._periodic = {str(name): build(node) for name, node in config.periodic.items() if node is not None}
        self._final = {str(name): build(node) for name, node in config.final.items() if node is not None}
        self._save = save
        self._board = board

    def draw_periodic(self, trained: Trained, step: int, last: bool) -> None:
        """Draw those that show training, if this epoch is one of theirs or the last."""
        if not last and (self._every == 0 or trained.epoch % self._every):
            return
        for name, draw in self._periodic.items():
            figure = draw(trained)
            if figure is not None:
                self._save(figure, name, trained.epoch)
                self._board.picture(name, figure, step)

    def draw_final(self, trained: Trained) -> None:
        """Draw those that show the result; `trained` is that of the last epoch."""
        for name, draw in self._final.items():
            figure = draw(trained)
            if figure is not None:
                self._save(figure, name)
