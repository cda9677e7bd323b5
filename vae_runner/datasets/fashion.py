"""Fashion-MNIST: 70,000 pieces of clothing, 28×28 grey, 10 classes (Xiao, Rasul and Vollgraf, 2017)."""

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.io.idx import IdxFile, load_idx_dataset

LABEL_NAMES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
FILES = {
    "train_images": IdxFile("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    "train_labels": IdxFile("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
    "test_images": IdxFile("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
    "test_labels": IdxFile("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
}


def load(
    *, root: str | None, data_dir: str, url: str, limit: int | None = None, validation_fraction: float = 0.0
) -> Dataset:
    """Fashion-MNIST from `root`, else `data_dir`/fashion, else Keras's cache, else `url`."""
    return load_idx_dataset("fashion", FILES, LABEL_NAMES, root, data_dir, url, limit, validation_fraction)
