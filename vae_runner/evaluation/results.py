"""What is kept of a finished run's test split, to compare it with other runs."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Split
from vae_runner.models.variables import Arrays

KEPT_TEST_IMAGES = 16


def final_arrays(
    embeddings: NDArray[np.float32], embedded: Split, test: Split, label_names: Sequence[str]
) -> Iterator[tuple[str, Arrays]]:
    """Yield named groups of arrays: `embeddings` and `test_images`.

    The first has the `mean` of the posterior, the `embeddings` `[n, latent]` of the `embedded` images, and their
    `labels`, int64 `[n]`, where they have any. Other parameters may be large: a covariance has latent² numbers. Runs
    that are older have all of them. `test_images` are a few `images`, uint8 `[n, height, width, channels]`, the
    `label_names`, and the `count` of all test images.
    """
    yield "embeddings", {"mean": embeddings, **({} if embedded.labels is None else {"labels": embedded.labels})}
    images = np.asarray(test.first(KEPT_TEST_IMAGES).images)
    names = np.array(label_names, dtype=np.str_)
    yield "test_images", {"images": images, "label_names": names, "count": np.array(len(test))}
