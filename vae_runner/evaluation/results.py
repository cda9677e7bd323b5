"""What is kept of a finished run's test split, to compare it with other runs."""

from collections.abc import Iterator, Sequence

import numpy as np

from vae_runner.datasets.dataset import Split
from vae_runner.models.variables import Arrays

KEPT_TEST_IMAGES = 16


def final_arrays(
    posterior: Arrays, embedded: Split, test: Split, label_names: Sequence[str]
) -> Iterator[tuple[str, Arrays]]:
    """Yield named groups of arrays: `embeddings` and `test_images`.

    `embeddings` are the posterior's parameters of the `embedded` images, float32 `[n, latent]`, and their `labels`,
    int64 `[n]`, where they have any. `test_images` are a few `images`, uint8 `[n, height, width, channels]`, the
    `label_names`, and the `count` of all test images.
    """
    yield "embeddings", {**posterior, **({} if embedded.labels is None else {"labels": embedded.labels})}
    images = np.asarray(test.first(KEPT_TEST_IMAGES).images)
    names = np.array(label_names, dtype=np.str_)
    yield "test_images", {"images": images, "label_names": names, "count": np.array(len(test))}
