"""scikit-learn's bundled digits: 1,797 images, 8×8 grey, 10 classes (UCI, Alpaydin and Kaynak, 1998)."""

import numpy as np
from sklearn.datasets import load_digits

from vae_runner.datasets.dataset import Dataset, Split, fixed_order, make_dataset, split_sizes


def load(*, test_fraction: float, validation_fraction: float = 0.0, limit: int | None = None) -> Dataset:
    """Return the digits; their grey values 0 … 16 become 0 … 255."""
    bundle = load_digits()
    images = np.round(bundle.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bundle.target.astype(np.int64)
    _, part = split_sizes(len(images), test_fraction, "test_fraction")
    order = fixed_order(len(images))
    test, train = (Split(images[chosen], labels[chosen]) for chosen in (order[:part], order[part:]))
    return make_dataset(train, test, [str(digit) for digit in range(10)], limit, validation_fraction)
