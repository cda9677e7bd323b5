"""Images along each latent dimension."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import decode, in_latent_space, information
from vae_runner.figures.grid import image_grid
from vae_runner.figures.trained import Trained

TAILS = (0.5, 99.5)  # percentiles of the embeddings between which a dimension moves


def traversals(trained: Trained, rows: int, columns: int) -> Figure | None:
    """Draw a row for each latent dimension, the most informative first: the first test image's z with it moved.

    Where classes matter, all images are of its class, and the range of a dimension is that of the class. None for
    codes, which do not move.
    """
    if trained.has_codes:
        return None
    embeddings, labels = trained.posterior["mean"], trained.given_labels
    label, name = trained.first_class()
    values, unit = information(trained.autoencoder, trained.posterior, labels)
    if labels is not None:
        embeddings = embeddings[labels == label]
    dimensions = np.argsort(-values, kind="stable")[:rows]
    z = np.repeat(embeddings[:1], len(dimensions) * columns, axis=0)
    for row, dimension in enumerate(dimensions):
        low, high = np.percentile(embeddings[:, dimension], TAILS)
        z[row * columns : (row + 1) * columns, dimension] = np.linspace(low, high, columns)
    names = [f"$z_{{{d + 1}}}$  {values[d]:.2f} {unit}" for d in dimensions]
    title = f"One latent dimension a row, moved across the range of {name or 'the embeddings'}"
    of_images = np.full(len(z), label)
    images = decode(trained.autoencoder, in_latent_space(trained.autoencoder, z, of_images), of_images)
    return image_grid(images, columns, title, row_labels=names)
