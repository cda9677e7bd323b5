"""Finished runs, side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from vae_runner.figures.grid import draw_grid
from vae_runner.figures.labels import plain_text
from vae_runner.figures.latent_space import plane, scatter
from vae_runner.training.early_stopping import OTHER_METRICS

COLUMN_INCHES = 4.2
SAMPLE_COLUMNS = 8
PADDING = 0.12  # inches around each part; with the layout's own, the first label is cut at the edge
LINE_INCHES = 0.19
LONGEST_TITLE = 46  # letters, of which a column has place for so many
LONGEST_METRIC = 32


@dataclass(frozen=True)
class Compared:
    """What is drawn of one run."""

    name: str
    about: str
    embeddings: NDArray[np.float32]  # [n, latent]
    labels: NDArray[np.integer] | None  # [n]
    reconstructions: NDArray[np.float32]  # of the images that all runs share, [n, height, width, channels]
    samples: NDArray[np.float32]  # [n, height, width, channels]
    prior: str  # the formula of the prior that the samples are of
    metrics: Mapping[str, float]


def comparison(images: NDArray[np.uint8], label_names: Sequence[str], runs: Sequence[Compared]) -> Figure:
    """Draw a column for each run: latent space, reconstructions, samples, metrics.

    Latent spaces of two dimensions and the same prior are on the same axes.
    """
    height, width = images.shape[1:3]
    cell = COLUMN_INCHES / SAMPLE_COLUMNS
    grid_rows = [2, -(-len(runs[0].samples) // SAMPLE_COLUMNS)]
    heights = [COLUMN_INCHES * 0.95, *(rows * cell * height / width + 0.45 for rows in grid_rows)]
    names = in_order(name for run in runs for name in run.metrics)
    heights.append(LINE_INCHES * len(names))
    figure = Figure(
        figsize=(COLUMN_INCHES * len(runs) + (1.4 if label_names else 0.2), sum(heights) + 0.8),
        layout=ConstrainedLayoutEngine(w_pad=PADDING, h_pad=PADDING),
    )
    axes = figure.subplots(4, len(runs), squeeze=False, height_ratios=heights)
    for column, run in enumerate(runs):
        points, axis_names = plane(run.embeddings)
        scatter(axes[0, column], points, run.labels, label_names)
        axes[0, column].set(xlabel=axis_names[0], ylabel=axis_names[1])
        title = plain_text(run.name, LONGEST_TITLE, keep_end=True), plain_text(run.about, LONGEST_TITLE)
        axes[0, column].set_title("\n".join(title), fontsize=9)
        if column < len(runs) - 1 and (legend := axes[0, column].get_legend()) is not None:
            legend.remove()
        both = np.concatenate([images / np.float32(255), run.reconstructions])
        draw_grid(axes[1, column], both, len(images))
        axes[1, column].set_title("test images, reconstructions", fontsize=8)
        draw_grid(axes[2, column], run.samples, SAMPLE_COLUMNS)
        axes[2, column].set_title(f"samples, z ~ {run.prior}", fontsize=8)
        _list_metrics(axes[3, column], names, run.metrics)
    planar = [column for column, run in enumerate(runs) if run.embeddings.shape[1] == 2]
    for prior in {runs[column].prior for column in planar}:  # Codes of different priors may be of different sizes.
        together = [column for column in planar if runs[column].prior == prior]
        low, high = _square(np.concatenate([runs[column].embeddings for column in together]))
        for column in together:
            axes[0, column].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", adjustable="box")
    return figure


def in_order(names: Iterable[str]) -> list[str]:
    """Return metrics' names, each once: those of a split together, and last those that are no losses."""
    once = dict.fromkeys(names)
    splits = dict.fromkeys(name.rpartition("/")[0] for name in once if name not in OTHER_METRICS)
    return [
        *(name for split in splits for name in once if name not in OTHER_METRICS and name.rpartition("/")[0] == split),
        *(name for name in once if name in OTHER_METRICS),
    ]


def _list_metrics(axes: Axes, names: Sequence[str], metrics: Mapping[str, float]) -> None:
    axes.set_axis_off()
    for line, name in enumerate(names):
        height = 1 - (line + 0.5) / len(names)
        value = f"{metrics[name]:,.4g}" if name in metrics else "–"
        axes.text(0.02, height, plain_text(name, LONGEST_METRIC), fontsize=8, va="center")
        axes.text(0.98, height, value, fontsize=8, va="center", ha="right")


def _square(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lower left and the upper right corner of a square around points `[n, 2]`, with a margin."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    half = 0.54 * np.ptp(points, axis=0).max()
    return centre - half, centre + half
