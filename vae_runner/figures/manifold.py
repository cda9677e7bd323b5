"""A 2-D latent space, decoded."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import decode
from vae_runner.figures.grid import GAP, image_grid
from vae_runner.figures.trained import Trained

BLENDING = 16  # pixels: smaller images run together without a gap


def manifold(trained: Trained, side: int) -> Figure | None:
    """Draw a grid of decoded prior quantiles (Kingma & Welling, 2014, figure 4); for 2-D latents only.

    The unit square in equal steps, through the inverse of the normal distribution function: equal areas of the picture
    hold equal mass of the prior. Where classes matter, the images are of the first test image's class.
    """
    label, name = trained.first_class()
    labels = np.full(side * side, label)
    prior = trained.autoencoder.latent_prior(labels)
    if trained.autoencoder.latent != 2 or not hasattr(prior, "quantile"):
        return None
    quantiles = prior.quantile((np.arange(side) + 0.5) / side)
    x, y = np.meshgrid(quantiles, quantiles[::-1])
    images = decode(trained.autoencoder, np.stack([x.ravel(), y.ravel()], axis=1), labels)
    title = f"Decoded quantiles of the prior{f', {name}' if name else ''}: $z_1$ to the right, $z_2$ up"
    ticks = [f"{value:.1f}" for value in quantiles]
    return image_grid(
        images, side, title, row_labels=ticks[::-1], column_labels=ticks,
        gap=0 if images.shape[2] >= BLENDING else GAP, cell_inches=0.42,
    )  # fmt: skip
