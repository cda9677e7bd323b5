"""Images along each latent dimension."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import decode, in_latent_space, information
from vae_runner.figures.grid import image_grid
from vae_runner.figures.trained import Trained

TAILS = (0.5, 99.5)  # percentiles of the embeddings between which a dimension moves


def traversals(trained: Trained, rows: int, columns: int) -> Figure:
    """Draw a row for each latent dimension, the most informative first: the first test image's z with it moved."""
    embeddings = trained.posterior["mean"]
    values, unit = information(trained.autoencoder, trained.posterior)
    dimensions = np.argsort(-values, kind="stable")[:rows]
    z = np.repeat(embeddings[:1], len(dimensions) * columns, axis=0)
    for row, dimension in enumerate(dimensions):
        low, high = np.percentile(embeddings[:, dimension], TAILS)
        z[row * columns : (row + 1) * columns, dimension] = np.linspace(low, high, columns)
    labels = [f"$z_{{{d + 1}}}$  {values[d]:.2f} {unit}" for d in dimensions]
    title = "One latent dimension a row, moved across the range of the embeddings"
    return image_grid(
        decode(trained.autoencoder, in_latent_space(trained.autoencoder, z)), columns, title, row_labels=labels
    )
