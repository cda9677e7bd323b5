"""`dataset.image_size`: images in memory, made larger or smaller."""

from pathlib import Path

import numpy as np

from tests.datasets.conftest import IDX_NAMES, write_idx
from vae_runner.datasets import digits, mnist
from vae_runner.datasets.io.resizing import resized

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)


def test_images_of_28_pixels_get_a_black_border_to_have_32() -> None:
    images = resized(IMAGES, 32)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0))))


def test_half_the_size_is_an_average_and_not_every_other_pixel() -> None:
    stripes = np.zeros((1, 28, 28, 1), np.uint8)
    stripes[:, ::2] = 200
    images = resized(stripes, 14)
    assert images.shape == (1, 14, 14, 1)
    np.testing.assert_allclose(images[:, 1:-1], 100, atol=1)


def test_larger_images_are_interpolated_and_the_same_size_changes_nothing() -> None:
    ramp = np.tile(np.arange(0, 80, 10, np.uint8)[:, np.newaxis], (1, 1, 8))[..., np.newaxis]
    np.testing.assert_array_equal(resized(ramp, 16)[0, 1:-1, 3, 0], np.round(np.arange(2.5, 70, 5) + 1e-6))
    assert resized(IMAGES, 28) is IMAGES


def test_every_split_has_the_size_and_images_are_known_by_it() -> None:
    plain, larger = (digits.load(test_fraction=0.2, validation_fraction=0.1, image_size=size) for size in (None, 16))
    assert {split.images.shape[1:] for split in larger.splits.values()} == {(16, 16, 1)}
    np.testing.assert_array_equal(larger.train.labels, plain.train.labels)
    assert plain.fingerprint == digits.load(test_fraction=0.2, validation_fraction=0.1, image_size=8).fingerprint
    assert all(larger.fingerprint[name] != plain.fingerprint[name] for name in plain.splits)


def test_mnist_has_the_key(tmp_path: Path) -> None:
    labels = np.arange(5, dtype=np.uint8)
    write_idx(tmp_path, {part: IMAGES[..., 0] if "images" in part else labels for part in IDX_NAMES})
    dataset = mnist.load(root=str(tmp_path), data_dir="", url="", image_size=32)
    np.testing.assert_array_equal(dataset.train.images[:, 2:-2, 2:-2], IMAGES)
    assert dataset.image_shape == (32, 32, 1)
