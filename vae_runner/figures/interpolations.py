"""Images between two test images."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import decode, in_latent_space, posterior_of
from vae_runner.figures.grid import image_grid
from vae_runner.figures.labels import plain_text
from vae_runner.figures.trained import LONGEST_CLASS, Trained


def interpolations(trained: Trained, rows: int, columns: int) -> Figure | None:
    """Draw two test images at the ends of each row, and between them images decoded from the line between their z.

    Where classes matter, both are of the same one. None for codes, between which there is nothing.
    """
    if trained.has_codes:
        return None
    columns = max(columns, 3)
    pairs = _pairs(trained, rows)
    rows = len(pairs)
    if rows == 0:
        return None
    ends = trained.test.select(np.array(pairs).ravel())
    images = np.asarray(ends.images)
    embeddings = posterior_of(trained.autoencoder, images, ends.labels)["mean"]
    weights = np.linspace(0, 1, columns - 2)[:, np.newaxis]
    lines = [(1 - weights) * embeddings[2 * row] + weights * embeddings[2 * row + 1] for row in range(rows)]
    labels = None if ends.labels is None else np.repeat(ends.labels[::2], columns - 2)
    z = in_latent_space(trained.autoencoder, np.concatenate(lines), labels)
    between = decode(trained.autoencoder, z, labels).reshape(rows, columns - 2, *images.shape[1:])
    pictures = images.reshape(rows, 2, *images.shape[1:]) / np.float32(255)
    cells = np.concatenate([pictures[:, :1], between, pictures[:, 1:]], axis=1).reshape(-1, *images.shape[1:])
    names: list[str] = []
    if trained.given_labels is not None and ends.labels is not None:
        names = [plain_text(trained.class_name(label), LONGEST_CLASS) for label in ends.labels[::2]]
    of_class = " of one class" if names else ""
    return image_grid(
        cells, columns, f"Between pairs of test images{of_class}, along a line in latent space", row_labels=names,
        column_labels=["image", *[f"{weight:.0%}" for weight in weights[:, 0]], "image"],
    )  # fmt: skip


def _pairs(trained: Trained, rows: int) -> list[tuple[int, int]]:
    """Return the places of pairs of test images, at most `rows`; where classes matter, of the classes in turn."""
    labels = trained.given_labels
    if labels is None:
        return [(2 * row, 2 * row + 1) for row in range(min(rows, len(trained.test) // 2))]
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    pairs = [
        (int(places[2 * turn]), int(places[2 * turn + 1]))
        for turn in range(rows)
        for places in by_class
        if len(places) >= 2 * turn + 2
    ]
    return pairs[:rows]
