"""`dataset.augment`: training images changed at random in the step."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from vae_runner.datasets import digits
from vae_runner.datasets.augmentation import NUMBERS, augment
from vae_runner.datasets.binarization import build_dataset
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.schema import AugmentConfig
from vae_runner.errors import UserError

COUNT, HEIGHT, WIDTH = 200, 12, 8
IMAGES = (np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3)) / 255).astype(np.float32)
DRAWN = np.random.default_rng(1).random((COUNT, NUMBERS), np.float32)
DIGITS = {"_target_": "vae_runner.datasets.digits.load", "test_fraction": 0.2}


def augmented(**keys: Any) -> np.ndarray:
    images = augment(tf.constant(IMAGES), tf.constant(DRAWN), AugmentConfig(**keys))
    assert images.dtype == tf.float32
    assert images.shape == IMAGES.shape
    return np.asarray(images)


def test_half_of_the_images_are_flipped_and_the_others_left_as_they_are() -> None:
    images = augmented(flip=True)
    flipped = (images == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (flipped | (images == IMAGES).all(axis=(1, 2, 3))).all()
    assert 70 < flipped.sum() < 130


def test_images_are_shifted_by_whole_pixels_in_both_directions_and_edges_are_repeated() -> None:
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    shifts = {(y, x): padded[:, y : y + HEIGHT, x : x + WIDTH] for y in range(5) for x in range(5)}
    images, found = augmented(shift=2), []
    for image, candidates in zip(images, zip(*shifts.values(), strict=True), strict=True):
        found += [key for key, candidate in zip(shifts, candidates, strict=True) if (candidate == image).all()]
    assert len(found) == COUNT
    assert len(set(found)) == 25


def test_a_crop_is_the_interpolated_part_that_tensorflow_takes() -> None:
    images = augmented(crop=0.4)
    _, _, _, size, top, left, _ = DRAWN.T
    part = 1 - 0.4 * size
    rows, columns = (0.5 * part + start * (1 - part) * n - 0.5 for start, n in ((top, HEIGHT), (left, WIDTH)))
    zero = np.zeros(COUNT)
    theirs = tf.raw_ops.ImageProjectiveTransformV3(
        images=IMAGES, transforms=np.stack([part, zero, columns, zero, part, rows, zero, zero], 1).astype(np.float32),
        output_shape=[HEIGHT, WIDTH], fill_value=0.0, interpolation="BILINEAR", fill_mode="NEAREST",
    )  # fmt: skip
    np.testing.assert_allclose(images, theirs, atol=0.51 / 255)  # Ours are on the levels of pixels.
    np.testing.assert_allclose(images * 255, np.round(images * 255), atol=1e-3)
    assert (images != IMAGES).any(axis=(1, 2, 3)).all()


def test_brightness_is_added_to_all_pixels_of_an_image_and_they_stay_levels_of_pixels() -> None:
    images = augmented(brightness=0.2)
    added = 0.2 * (2 * DRAWN[:, -1] - 1)
    np.testing.assert_allclose(images, np.clip(IMAGES + added[:, None, None, None], 0, 1), atol=0.51 / 255)
    np.testing.assert_allclose(images * 255, np.round(images * 255), atol=1e-3)


def test_all_of_them_together_leave_a_plain_image_plain() -> None:
    plain = tf.fill([COUNT, HEIGHT, WIDTH, 1], 0.4)
    images = augment(plain, tf.constant(DRAWN), AugmentConfig(flip=True, shift=3, crop=0.3))
    np.testing.assert_allclose(images, plain, atol=1e-6)


def own(**keys: object) -> Dataset:
    """A dataset of a user's own, whose function takes no `augment`."""
    assert not keys
    return digits.load(test_fraction=0.2, limit=10)


def test_a_dataset_says_how_its_training_images_are_changed_and_nothing_else_of_it_changes() -> None:
    plain = build_dataset(DIGITS)
    assert plain.augment is None
    assert build_dataset({**DIGITS, "augment": AugmentConfig()}).augment is None
    changed = build_dataset({**DIGITS, "augment": {"flip": True}})
    assert changed.augment == AugmentConfig(flip=True)
    assert changed.fingerprint == plain.fingerprint
    assert build_dataset({"_target_": f"{__name__}.own", "augment": {"crop": 0.5}}).augment == AugmentConfig(crop=0.5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"augment": {"flop": True}}, r"give some of the keys flip, shift, crop, brightness, as {flip: true}"),
        ({"augment": "flip"}, r"dataset\.augment=flip: give some of the keys"),
        ({"augment": {"crop": 1.5}}, r"dataset\.augment\.crop=1\.5: must be less than 1"),
        (
            {"augment": {"crop": 0.5}, "binarize": "static"},
            r"augment\.crop makes grey pixels, and dataset\.binarize=st",
        ),
        ({"augment": {"brightness": 0.5}, "binarize": "threshold"}, r"choose dataset\.binarize=dynamic"),
    ],
)
def test_what_is_no_augmentation_or_does_not_fit_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_dataset({"_target_": f"{__name__}.own", **keys})
