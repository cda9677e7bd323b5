"""Images between two test images."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import decode, in_latent_space, posterior_of
from vae_runner.figures.grid import image_grid
from vae_runner.figures.trained import Trained


def interpolations(trained: Trained, rows: int, columns: int) -> Figure | None:
    """Draw two test images at the ends of each row, and between them images decoded from the line between their z."""
    columns = max(columns, 3)
    rows = min(rows, len(trained.test) // 2)
    if rows == 0:
        return None
    ends = np.asarray(trained.test.images[: 2 * rows])
    embeddings = posterior_of(trained.autoencoder, ends)["mean"]
    weights = np.linspace(0, 1, columns - 2)[:, np.newaxis]
    lines = [(1 - weights) * embeddings[2 * row] + weights * embeddings[2 * row + 1] for row in range(rows)]
    z = in_latent_space(trained.autoencoder, np.concatenate(lines))
    between = decode(trained.autoencoder, z).reshape(rows, columns - 2, *ends.shape[1:])
    pictures = ends.reshape(rows, 2, *ends.shape[1:]) / np.float32(255)
    images = np.concatenate([pictures[:, :1], between, pictures[:, 1:]], axis=1).reshape(-1, *ends.shape[1:])
    labels = ["image", *[f"{weight:.0%}" for weight in weights[:, 0]], "image"]
    return image_grid(
        images, columns, "Between pairs of test images, along a line in latent space", column_labels=labels
    )
