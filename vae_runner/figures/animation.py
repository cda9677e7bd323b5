"""The frames of an animation: the images decoded from the same draws of the prior, after each epoch."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_runner.evaluation.embeddings import decode
from vae_runner.figures.trained import Trained
from vae_runner.files.pictures import picture_of

ROWS = COLUMNS = 8
SIDE = 64  # pixels of the longer side of an image in a frame


def frame(trained: Trained) -> NDArray[np.uint8]:
    """Return the images of the figure `samples` side by side, as uint8 `[height, width, channels]`.

    Each is made larger or smaller, so that its longer side is of about 64 pixels.
    """
    cells = trained.cells(ROWS, COLUMNS)
    images = decode(trained.autoencoder, trained.prior_draws(0, cells), cells.labels)
    pixels = np.round(images * 255).astype(np.uint8)
    _, height, width, channels = pixels.shape
    grid = pixels.reshape(-1, COLUMNS, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(-1, COLUMNS * width, channels)
    longer = max(height, width)
    if longer <= SIDE:
        return grid.repeat(SIDE // longer, axis=0).repeat(SIDE // longer, axis=1)
    size = round(grid.shape[1] * SIDE / longer), round(grid.shape[0] * SIDE / longer)
    smaller = np.asarray(picture_of(grid).resize(size, Image.Resampling.LANCZOS))
    return smaller.reshape(*smaller.shape[:2], channels)
