"""Finished runs, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vae_runner.figures.grid import draw_grid
from vae_runner.figures.latent_space import plane, scatter

COLUMN_INCHES = 4.2
SAMPLE_COLUMNS = 8


@dataclass(frozen=True)
class Compared:
    """What is drawn of one run."""

    title: str
    embeddings: np.ndarray[Any, Any]  # [n, latent]
    labels: np.ndarray[Any, Any] | None  # [n]
    reconstructions: np.ndarray[Any, Any]  # of the images that all runs share
    samples: np.ndarray[Any, Any]


def comparison(images: np.ndarray[Any, Any], label_names: Sequence[str], runs: Sequence[Compared]) -> Figure:
    """One column a run: latent space (2-D ones on the same axes), reconstructions of the same `images`, samples."""
    height, width = images.shape[1:3]
    cell = COLUMN_INCHES / SAMPLE_COLUMNS
    grid_rows = [2, -(-len(runs[0].samples) // SAMPLE_COLUMNS)]
    heights = [COLUMN_INCHES * 0.95, *(rows * cell * height / width + 0.45 for rows in grid_rows)]
    figure = Figure(
        figsize=(COLUMN_INCHES * len(runs) + (1.4 if label_names else 0.2), sum(heights) + 0.8),
        layout="constrained",
    )
    axes = figure.subplots(3, len(runs), squeeze=False, height_ratios=heights)
    for column, run in enumerate(runs):
        points, names = plane(run.embeddings)
        scatter(axes[0, column], points, run.labels, label_names)
        axes[0, column].set(xlabel=names[0], ylabel=names[1])
        axes[0, column].set_title(run.title, fontsize=9)
        if column < len(runs) - 1 and (legend := axes[0, column].get_legend()) is not None:
            legend.remove()
        both = np.concatenate([images / np.float32(255), run.reconstructions])
        draw_grid(axes[1, column], both, len(images))
        axes[1, column].set_title("test images, reconstructions", fontsize=8)
        draw_grid(axes[2, column], run.samples, SAMPLE_COLUMNS)
        axes[2, column].set_title("samples, z ~ N(0, I)", fontsize=8)
    planar = [axes[0, i] for i, run in enumerate(runs) if run.embeddings.shape[1] == 2]
    for other in planar[1:]:
        other.sharex(planar[0])
        other.sharey(planar[0])
    if planar:
        planar[0].autoscale()
    return figure
