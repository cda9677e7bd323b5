"""Images decoded from drawn latents."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.evaluation.embeddings import decode
from vae_runner.figures.grid import image_grid
from vae_runner.figures.trained import Cells, Trained


def samples(trained: Trained, rows: int, columns: int) -> Figure:
    """Draw images decoded from draws of the prior: the same at every epoch, so that training can be watched.

    Where classes matter, there is a row for each, whatever `rows` says.
    """
    cells = trained.cells(rows, columns)
    images = decode(trained.autoencoder, trained.prior_draws(0, cells), cells.labels)
    title = f"Samples: z ~ {trained.autoencoder.prior.symbol}{cells.by_class}, after epoch {trained.epoch}"
    return image_grid(images, columns, title, row_labels=cells.row_labels)


def samples_normal(trained: Trained, rows: int, columns: int) -> Figure:
    """Draw images decoded from draws of the prior, captioned with z where it is 2-D."""
    cells = trained.cells(rows, columns)
    z = trained.prior_draws(1, cells)
    return _captioned(trained, z, cells, columns, f"z from {trained.autoencoder.prior.description}")


def samples_uniform(trained: Trained, rows: int, columns: int) -> Figure | None:
    """Draw images decoded from draws of the box that the test embeddings fill, uniform in each dimension.

    None for latents on a sphere, which is no box, and for codes, which do not fill one.
    """
    if trained.has_codes:
        return None
    cells = trained.cells(rows, columns)
    if isinstance(trained.autoencoder.latent_prior(cells.labels), UniformOnSphere):
        return None
    embeddings = trained.posterior["mean"]
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    u = trained.random(2).random((cells.number, trained.autoencoder.latent))
    return _captioned(trained, low + u * (high - low), cells, columns, "z uniform in the box of the test embeddings")


def _captioned(trained: Trained, z: NDArray[np.number], cells: Cells, columns: int, title: str) -> Figure:
    captions = [f"{a:.2f}, {b:.2f}" for a, b in z] if z.shape[1] == 2 else ()
    images = decode(trained.autoencoder, z, cells.labels)
    return image_grid(images, columns, f"{title}{cells.by_class}", captions=captions, row_labels=cells.row_labels)
