"""The samples that are closest to training images, beside these images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_runner.figures.grid import image_grid


@dataclass(frozen=True)
class Pairs:
    """Samples and the training image that is nearest to each, the closest first."""

    samples: NDArray[np.uint8]  # [count, height, width, channels]
    training_images: NDArray[np.uint8]  # likewise
    distances: NDArray[np.floating]  # [count]


def nearest_neighbours(spaces: Mapping[str, Pairs]) -> Figure:
    """Draw for each space in which distances are taken ("pixels", "classifier") samples above their nearest images.

    The distance stands above each training image. All spaces have equally many pairs.
    """
    rows = [images for pairs in spaces.values() for images in (pairs.samples, pairs.training_images)]
    captions = [
        text
        for pairs in spaces.values()
        for text in ([""] * len(pairs.samples) + [f"at {distance:.3g}" for distance in pairs.distances])
    ]
    labels = [label for name in spaces for label in ("sample", f"nearest by\n{name}")]
    title = "The samples closest to training images, and these images"
    return image_grid(np.concatenate(rows), len(rows[0]), title, captions=captions, row_labels=labels)
