"""Where the encoder puts the test images."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_runner.figures.labels import plain_text
from vae_runner.figures.trained import Trained

LONGEST_NAME = 24  # letters in the legend
FEWEST_FOR_TSNE = 10  # of fewer points t-SNE makes a picture of nothing
UNIT_LENGTH = 1e-3  # how far from 1 the length of an embedding on the sphere may be
SOUTH_POLE = 1e-6  # the least 1 + z₃, where the map has its rim
MAX_LEGEND = 20  # classes; more cannot be told apart by colour


def latent_space(trained: Trained) -> Figure | None:
    """Draw a scatter of the test embeddings, coloured by class.

    Two dimensions are drawn as they are, a sphere in three as a map, others by t-SNE; None for codes, which
    `code_usage` shows.
    """
    if trained.has_codes:
        return None
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    axes = figure.add_subplot()
    points, names = plane(trained.posterior["mean"])
    scatter(axes, points, trained.embedded.labels, trained.label_names)
    axes.set(xlabel=names[0], ylabel=names[1])
    title = f"Embeddings of {len(points):,} test images ({trained.autoencoder.latent_size} latent space)"
    figure.suptitle(title, fontsize=10)
    return figure


def plane(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.floating], tuple[str, str]]:
    """Return embeddings `[n, latent]` as points of a plane `[n, 2]`, and the names of its axes."""
    count, latent = embeddings.shape
    if latent == 2:
        return embeddings, ("$z_1$", "$z_2$")
    if latent == 1:  # spread over the second axis at random, so that dense places show
        spread = np.random.default_rng(0).uniform(size=(count, 1))
        return np.concatenate([embeddings, spread], axis=1), ("$z_1$", "random, to spread the points")
    if latent == 3 and np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=UNIT_LENGTH):
        # Lambert's azimuthal equal-area projection: the sphere becomes a disc of radius 2, around the pole z₃ = 1.
        stretch = np.sqrt(2 / np.maximum(1 + embeddings[:, 2:], SOUTH_POLE))
        return stretch * embeddings[:, :2], ("$z_1$ of the sphere, in an equal-area map", "$z_2$")
    if count < FEWEST_FOR_TSNE or np.ptp(embeddings) == 0:  # t-SNE needs something to tell apart
        return embeddings[:, :2], ("$z_1$", "$z_2$")
    from sklearn.manifold import TSNE  # takes a second to import, and 2-D latents do not need it

    tsne = TSNE(perplexity=min(30.0, (count - 1) / 3), init="pca", random_state=0)
    return tsne.fit_transform(embeddings), ("t-SNE 1", "t-SNE 2")


def scatter(axes: Axes, points: NDArray[np.floating], labels: NDArray[np.integer] | None, names: Sequence[str]) -> None:
    """Draw points `[n, 2]`, coloured by their classes, `labels`; with a legend unless there are too many classes."""
    size = float(np.clip(12_000 / len(points), 4, 24))
    style: dict[str, Any] = {"s": size, "alpha": 0.6, "linewidths": 0, "rasterized": True}
    if labels is None or not names:
        axes.scatter(points[:, 0], points[:, 1], color="tab:blue", **style)
    elif len(names) > MAX_LEGEND:
        axes.scatter(points[:, 0], points[:, 1], c=labels, cmap="turbo", **style)
    else:
        colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
        handles = [
            axes.scatter(*points[labels == index].T, color=colours(index), **style) for index in range(len(names))
        ]
        legend = axes.legend(
            handles, [plain_text(name, LONGEST_NAME) for name in names],
            loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8, markerscale=2.5,
        )  # fmt: skip
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
    axes.set_aspect("equal", "datalim")
    axes.grid(alpha=0.2, linewidth=0.5)
