"""The configured figures, drawn when they are due."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from vae_runner.config.instantiation import build
from vae_runner.figures.schema import FiguresConfig
from vae_runner.figures.trained import Trained


class Pictures:
    """The figures that a configuration names; those that do not apply are left out."""

    def __init__(self, config: FiguresConfig) -> None:
        self._every = config.every
        self._periodic, self._final = (
            {name: build(part, f"figures.{when}.{name}") for name, part in parts.items() if part is not None}
            for when, parts in (("periodic", config.periodic), ("final", config.final))
        )

    def periodic(self, trained: Trained, *, is_last: bool) -> Iterator[tuple[str, Figure]]:
        """Yield the periodic figures with their names, if they are due after this epoch or it is the last."""
        if is_last or (self._every and trained.epoch % self._every == 0):
            for name, draw in self._periodic.items():
                if (figure := draw(trained)) is not None:
                    yield name, figure

    def final(self, trained: Trained) -> Iterator[tuple[str, Figure]]:
        """Yield the figures of the last epoch with their names."""
        for name, draw in self._final.items():
            if (figure := draw(trained)) is not None:
                yield name, figure
