"""What a person sees while a run trains: a live bar on a terminal, and one line an epoch everywhere."""

import logging
from collections.abc import Mapping
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from vae_runner.runtime.console import console
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult, Progress

log = logging.getLogger(__name__)


class ProgressBar(Tracker):
    """A bar over the whole run, with the epoch, losses, images/s and the time left."""

    def __init__(self, epochs: int, images_per_epoch: int) -> None:
        self._epochs = epochs
        self._images_per_epoch = images_per_epoch
        self._bar = RichProgress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)), BarColumn(bar_width=None),
            TextColumn("{task.fields[terms]} · {task.fields[speed]} images/s ·", markup=False),
            TimeRemainingColumn(), TextColumn("left"),
            console=console, disable=not console.is_terminal, transient=True, expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=epochs * images_per_epoch, epoch=1, terms="starting", speed="–")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            completed=(progress.epoch - 1) * self._images_per_epoch + progress.images,
            epoch=progress.epoch,
            terms=" · ".join(f"{name} {value:.4g}" for name, value in progress.terms.items()),
            speed=f"{progress.images_per_second:,.0f}",
        )

    def epoch(self, result: EpochResult) -> None:
        """Log the line of an epoch, which stays."""
        metrics, splits = result.metrics, ("train", "validation", "test")
        epoch = f"{result.epoch:{len(str(self._epochs))}d}/{self._epochs}"
        losses = "   ".join(f"{split} {_terms(metrics, split)}" for split in splits if f"{split}/loss" in metrics)
        speed = f"{metrics['train/images_per_second']:,.0f}"
        log.info("epoch %s   %s   %s images/s, %.1f s", epoch, losses, speed, metrics["seconds"])


def _terms(metrics: Mapping[str, float], split: str) -> str:
    """Return `38.12 (reconstruction 33.05, kl 5.07)`, or the loss alone where it has a single term."""
    terms = {k.removeprefix(f"{split}/"): v for k, v in metrics.items() if k.startswith(f"{split}/")}
    terms.pop("images_per_second", None)
    loss = f"{terms.pop('loss'):.2f}"
    return loss if len(terms) < 2 else f"{loss} ({', '.join(f'{name} {value:.2f}' for name, value in terms.items())})"
