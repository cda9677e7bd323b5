"""Which images an evaluation takes, in which order, and how many of them are in memory at once."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.networks import build
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.io.made import MadeImages
from vae_runner.evaluation.embeddings import batch_size_for, decode
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject, Training
from vae_runner.models import mlp

SHAPE = (8, 8, 1)
ALL = np.random.default_rng(0).integers(0, 256, (1200, *SHAPE), np.uint8)


@pytest.fixture
def at_once() -> list[int]:
    """How many images were read at once, each time."""
    return []


@pytest.fixture
def subject(at_once: list[int], monkeypatch: pytest.MonkeyPatch) -> Subject:
    """One whose grid of 1,200 images is read when asked for, where memory allows for twenty."""

    def read(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert (np.diff(places) > 0).all()  # files are read in their order
        at_once.append(len(places))
        return ALL[places]

    factors = np.stack(np.unravel_index(np.arange(1200), (10, 120)), axis=1)
    grid = Split(MadeImages(read, SHAPE, np.arange(1200)), factors[:, 0], factors)
    dataset = Dataset(grid, grid, factor_names=("a", "b"), factor_sizes=(10, 120), grid=grid)
    keras.utils.set_random_seed(1)
    monkeypatch.setattr("vae_runner.evaluation.subject.MAX_BYTES", 20 * 8 * 8)
    return Subject(build(SHAPE, 3, model=mlp, width=4), dataset, EvaluationConfig(), Training({}, None, 1))


def test_codes_and_factors_are_of_as_many_images_as_asked_for_and_pixels_are_in_memory_a_batch_at_a_time(
    subject: Subject, at_once: list[int]
) -> None:
    encoded = subject.with_factors(1000)
    assert len(encoded.mean) == len(encoded.split) == 1000
    assert sum(at_once) == 1000
    assert max(at_once) == batch_size_for(subject.autoencoder)
    taken = np.random.default_rng(0).permutation(1200)[:1000]
    np.testing.assert_allclose(encoded.mean, subject.autoencoder.encoder(ALL[taken] / np.float32(255))["mean"], 1e-4)
    np.testing.assert_array_equal(encoded.split.factors, np.stack([taken // 120, taken % 120], axis=1))
    np.testing.assert_array_equal(encoded.split.labels, taken // 120)
    np.testing.assert_array_equal(encoded.first(5).split.images, ALL[taken[:5]])
    assert len(subject.with_factors(5000).split) == 1200


def test_reconstructions_are_of_all_images_a_batch_at_a_time(subject: Subject, at_once: list[int]) -> None:
    encoded = subject.encoded("test", 300)
    at_once.clear()
    images, decoded = (np.concatenate(parts) for parts in zip(*subject.reconstructions(encoded), strict=True))
    np.testing.assert_array_equal(images, np.asarray(encoded.split.images) / np.float32(255))
    np.testing.assert_array_equal(decoded, decode(subject.autoencoder, encoded.mean))
    assert at_once[:-1] == [128, 128, 44]


def test_where_pixels_are_kept_no_more_are_taken_than_fit_and_a_note_says_so(subject: Subject) -> None:
    assert (subject.fitting(19), subject.fitting(21)) == (19, 20)
    assert subject.cut("test", 20) == []
    assert subject.cut("train", 5000) == [
        "Of images of 8×8×1 no more fit into memory than 20 in place of 1,200 training images"
    ]
