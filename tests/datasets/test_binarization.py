"""`dataset.binarize`: grey images in black and white, drawn as their grey values say."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_experiments import built
from vae_runner.datasets import binarization
from vae_runner.datasets.binarization import BinaryImages, build_dataset, drawn
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.errors import UserError
from vae_runner.likelihoods.base import check_levels
from vae_runner.likelihoods.bernoulli import Bernoulli

DIGITS = {"_target_": "vae_runner.datasets.digits.load", "test_fraction": 0.2, "limit": 200}
GREYS = np.arange(0, 256, 15, np.uint8)


class Stored(np.ndarray):
    """What is no plain array, like a memory map."""


def own(kind: type = np.ndarray) -> Dataset:
    """A dataset of a user's own, whose function takes no `binarize`."""
    images: Any = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), np.uint8).view(kind)
    return Dataset(Split(images), Split(images[:20]), Split(images[20:]))


def digits(binarize: str, **keys: Any) -> Dataset:
    return build_dataset({**DIGITS, "binarize": binarize, **keys})


def test_without_it_images_are_those_of_the_source() -> None:
    plain, none = build_dataset(DIGITS), digits("none")
    assert plain.fingerprint == none.fingerprint
    assert plain.train.images.max() > plain.train.images[plain.train.images > 0].min()


def test_threshold_makes_a_pixel_white_from_128_on() -> None:
    before, after = digits("none"), digits("threshold")
    for name, split in after.splits.items():
        np.testing.assert_array_equal(split.images, np.where(before.splits[name].images >= 128, 255, 0))
        assert split.images.dtype == np.uint8


def test_draws_have_the_grey_values_for_their_means() -> None:
    count = 10_000
    images = np.broadcast_to(GREYS[:, np.newaxis], (count, 1, 18, 1))
    means = drawn(images, np.arange(count), split=1).mean(axis=0).ravel()
    deviation = np.sqrt(GREYS / 255 * (1 - GREYS / 255) / count) * 255
    assert np.all(np.abs(means - GREYS) <= 4 * deviation)
    assert (means[0], means[-1]) == (0, 255)


def test_draws_of_pixels_images_and_splits_are_independent() -> None:
    images = np.full((500, 8, 8, 1), 128, np.uint8)
    first, second = (drawn(images, np.arange(500), split).reshape(500, -1) / 255 for split in (0, 1))
    limit = 5 / np.sqrt(500)
    assert np.abs(np.corrcoef(np.hstack([first, second]), rowvar=False) - np.eye(128)).max() < limit
    assert np.abs(np.corrcoef(first[1:].ravel(), first[:-1].ravel())[0, 1]) < limit


@pytest.mark.parametrize("pixels", [(8, 8, 1), (9, 9, 3)])
def test_a_draw_is_the_same_however_images_are_read(pixels: tuple[int, int, int], tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (30, *pixels), np.uint8)
    everything = drawn(images, np.arange(30), split=0)
    assert set(np.unique(everything)) == {0, 255}
    images.tofile(tmp_path / "images.u8")
    stored = StoredImages(tmp_path / "images.u8", images.shape)
    binary = BinaryImages(stored, lambda read, places: drawn(read, places, 0))
    np.testing.assert_array_equal(np.asarray(binary), everything)
    for key in (3, slice(2, 9), slice(None, None, 4), np.array([7, 8, 9, 2, 29, 2]), np.array([], np.int64)):
        np.testing.assert_array_equal(np.asarray(binary[key]), everything[key])
    view = binary[5:20]
    assert isinstance(view, BinaryImages)
    np.testing.assert_array_equal(np.asarray(view[3:][[0, 4]]), everything[[8, 12]])


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_images_of_a_users_own_are_read_when_asked_for(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: object, *arguments: object) -> None:
        raise AssertionError("all images were read")

    monkeypatch.setattr(BinaryImages, "__array__", forbidden)
    lazy = build_dataset({"_target_": f"{__name__}.own", "kind": Stored, "binarize": how})
    monkeypatch.undo()
    loaded = build_dataset({"_target_": f"{__name__}.own", "binarize": how})
    assert type(lazy.train.images) is (Stored if how == "dynamic" else BinaryImages)
    for name, split in lazy.splits.items():
        assert split.images.shape == loaded.splits[name].images.shape
        np.testing.assert_array_equal(np.asarray(split.images), loaded.splits[name].images)
    assert lazy.validation is not None
    assert set(np.unique(np.asarray(lazy.validation.images))) == {0, 255}


def test_an_array_is_binarised_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = digits("static").train.images
    monkeypatch.setattr(binarization, "CHUNK_BYTES", 4 * 64 * 7)
    np.testing.assert_array_equal(digits("static").train.images, at_once)


def test_dynamic_leaves_training_images_grey_and_draws_the_others_like_static() -> None:
    grey, static, dynamic = (digits(how, validation_fraction=0.1) for how in ("none", "static", "dynamic"))
    np.testing.assert_array_equal(dynamic.train.images, grey.train.images)
    assert dynamic.validation is not None
    assert static.validation is not None
    np.testing.assert_array_equal(dynamic.test.images, static.test.images)
    np.testing.assert_array_equal(dynamic.validation.images, static.validation.images)


def test_test_images_are_the_same_with_another_seed_split_or_limit_and_in_another_process() -> None:
    expected = digits("dynamic").test.images
    with_validation = digits("dynamic", validation_fraction=0.3, limit=50).test.images
    np.testing.assert_array_equal(with_validation, expected[:50])
    experiment = built("seed=7", "dataset.binarize=dynamic", "likelihood=bernoulli")
    np.testing.assert_array_equal(experiment.dataset.test.images, expected[:40])
    script = (
        "from vae_runner.datasets.binarization import build_dataset\n"
        f"print(build_dataset({ {**DIGITS, 'binarize': 'dynamic'} }).fingerprint)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(digits("dynamic").fingerprint)


def test_what_it_may_be_is_checked_for_a_users_own_dataset_too() -> None:
    with pytest.raises(UserError, match=r"dataset\.binarize=yes: must be one of none, threshold, dynamic, static"):
        build_dataset({"_target_": f"{__name__}.own", "binarize": "yes"})


def test_a_likelihood_of_binary_images_takes_them_and_refuses_grey_ones() -> None:
    for how in ("threshold", "dynamic", "static"):
        check_levels(Bernoulli(), digits(how))
    with pytest.raises(UserError, match=r"give dataset\.binarize=dynamic \(or static, or threshold\), or choose"):
        check_levels(Bernoulli(), digits("none"))
    check_levels(Bernoulli(), replace(digits("threshold"), binarize="none"))
