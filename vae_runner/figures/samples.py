"""Images decoded from drawn latents."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.evaluation.embeddings import decode
from vae_runner.figures.grid import image_grid
from vae_runner.figures.trained import Trained


def samples(trained: Trained, rows: int, columns: int) -> Figure:
    """Draw images decoded from draws of the prior: the same at every epoch, so that training can be watched."""
    z = trained.prior_draws(0, rows * columns)
    title = f"Samples: z ~ {trained.autoencoder.prior.symbol}, after epoch {trained.epoch}"
    return image_grid(decode(trained.autoencoder, z), columns, title)


def samples_normal(trained: Trained, rows: int, columns: int) -> Figure:
    """Draw images decoded from draws of the prior, captioned with z where it is 2-D."""
    z = trained.prior_draws(1, rows * columns)
    return _captioned(trained, z, columns, f"z from {trained.autoencoder.prior.description}")


def samples_uniform(trained: Trained, rows: int, columns: int) -> Figure | None:
    """Draw images decoded from draws of the box that the test embeddings fill, uniform in each dimension.

    None for latents on a sphere, which is no box.
    """
    if isinstance(trained.autoencoder.latent_prior(), UniformOnSphere):
        return None
    embeddings = trained.posterior["mean"]
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    u = trained.random(2).random((rows * columns, trained.autoencoder.latent))
    return _captioned(trained, low + u * (high - low), columns, "z uniform in the box of the test embeddings")


def _captioned(trained: Trained, z: NDArray[np.number], columns: int, title: str) -> Figure:
    captions = [f"{a:.2f}, {b:.2f}" for a, b in z] if z.shape[1] == 2 else ()
    return image_grid(decode(trained.autoencoder, z), columns, title, captions=captions)
