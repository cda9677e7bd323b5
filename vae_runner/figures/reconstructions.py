"""Test images and their reconstructions."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.evaluation.embeddings import reconstruct
from vae_runner.figures.grid import image_grid
from vae_runner.figures.labels import plain_text
from vae_runner.figures.trained import Trained

LONGEST_CAPTION = 14  # letters above an image


def reconstructions(trained: Trained, images: int) -> Figure:
    """Draw the first test images, captioned with their class, above the images decoded from their embeddings."""
    originals = np.asarray(trained.test.images[:images])
    count = len(originals)
    decoded = reconstruct(trained.autoencoder, originals, trained.test.first(images).labels)
    both = np.concatenate([originals / np.float32(255), decoded])
    labels = (
        [plain_text(trained.label(i), LONGEST_CAPTION) for i in range(count)] + [""] * count
        if trained.label_names
        else ()
    )
    title = f"Test images and their reconstructions, after epoch {trained.epoch}"
    return image_grid(both, count, title, captions=labels, row_labels=["image", "reconstruction"])
