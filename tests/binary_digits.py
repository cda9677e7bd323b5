"""The digits in black and white, for likelihoods of binary images."""

import numpy as np

from vae_runner.datasets import digits
from vae_runner.datasets.dataset import Dataset, Split


def load(**keys: float) -> Dataset:
    """Return the digits, each pixel 0 or 255."""
    dataset = digits.load(**keys)
    train, test = (
        Split(np.where(split.images > 127, 255, 0).astype(np.uint8), split.labels)
        for split in (dataset.train, dataset.test)
    )
    return Dataset(train, test, None, dataset.label_names)
