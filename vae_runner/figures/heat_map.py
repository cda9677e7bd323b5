"""Matrices of dimensions against factors: which dimension of the latent space knows of what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vae_runner.evaluation.dci import DCI
from vae_runner.evaluation.mig import MIG
from vae_runner.figures.labels import plain_text

NUMBERED_ROWS = 32  # dimensions up to which each cell has its number in it
CELL_INCHES = (0.85, 0.3)
LOWEST, TALLEST = 2.7, 12.0  # inches
LONGEST_NAME = 10  # letters above a column
DARK = 0.6  # of the scale: from here on, numbers are white


def importance_map(result: DCI, names: Sequence[str] = ()) -> Figure:
    """Draw DCI's matrix: how important each dimension is to the trees that predict each factor."""
    title = (
        f"DCI: disentanglement {result.disentanglement:.2f}, completeness {result.completeness:.2f}\n"
        f"accuracy {result.informativeness:.2f} (guessing: {result.chance:.2f})"
    )
    return heat_map(result.importance, names, title, "importance", 1)


def information_map(result: MIG, names: Sequence[str] = ()) -> Figure:
    """Draw the mutual information of dimensions and factors, as a share of the factor's entropy, less the bias."""
    values = np.clip(result.mutual_information - result.bias, 0, None) / result.entropy
    title = f"Mutual information: MIG {result.score:.2f}, of {result.ceiling:.2f} at most"
    return heat_map(values, names, title, "share of the factor's entropy", 1)


def heat_map(
    values: NDArray[np.floating], names: Sequence[str], title: str, label: str, largest: float | None = None
) -> Figure:
    """Draw a matrix `[latent, factors]`, none negative, as colours from 0 to `largest`; None is its maximum.

    `names` are the factors'; without, they are numbered. The `label` says what the colours are.
    """
    latent, factors = values.shape
    width, height = CELL_INCHES[0] * factors + 2.2, min(max(CELL_INCHES[1] * latent + 1.5, LOWEST), TALLEST)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    top = float(values.max() if largest is None else largest) or 1.0
    extent = (-0.5, factors - 0.5, latent + 0.5, 0.5)  # Dimensions count from 1, as in the other figures.
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto", interpolation="nearest", extent=extent)
    names = names or [f"factor {number}" for number in range(1, factors + 1)]
    axes.set_xticks(range(factors), [plain_text(name, LONGEST_NAME) for name in names], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    if latent <= NUMBERED_ROWS:
        axes.set_yticks(range(1, latent + 1), [f"$z_{{{number}}}$" for number in range(1, latent + 1)], fontsize=8)
        for (j, k), value in np.ndenumerate(values):
            colour = "white" if value > DARK * top else "black"
            axes.text(k, j + 1, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("dimension of z")
    figure.colorbar(image, ax=axes).set_label(label, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
