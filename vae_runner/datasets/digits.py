"""scikit-learn's bundled digits: 1,797 images, 8×8 grey, 10 classes (UCI, Alpaydin and Kaynak, 1998)."""

import numpy as np
from sklearn.datasets import load_digits

from vae_runner.datasets.dataset import Dataset, Split, fixed_order, make_dataset, split_sizes


def load(
    *, test_fraction: float, validation_fraction: float = 0.0, limit: int | None = None, image_size: int | None = None
) -> Dataset:
    """Return the digits, with grey values 0 … 16 scaled to 0 … 255."""
    bundle = load_digits()
    images = np.round(bundle.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    digits = Split(images, bundle.target.astype(np.int64))
    _, part = split_sizes(len(digits), test_fraction, "test_fraction")
    order = fixed_order(len(digits))
    test, train = digits.select(order[:part]), digits.select(order[part:])
    return make_dataset(train, test, [str(digit) for digit in range(10)], limit, validation_fraction, image_size)
