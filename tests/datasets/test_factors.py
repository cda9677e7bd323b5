"""Factors go with their images, whatever is done to these."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import refused
from vae_runner.datasets.binarization import build_dataset
from vae_runner.datasets.dataset import Dataset, Split, check_dataset, make_dataset
from vae_runner.datasets.factors import grid_dataset
from vae_runner.datasets.io.made import MadeImages

SIZES = {"colour": 1, "shape": 3, "x": 5, "y": 7}
COUNT = 105


def make(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images whose pixels are their place."""
    return np.broadcast_to(places.astype(np.uint8)[:, None, None, None], (len(places), 8, 9, 1)).copy()


def grid(**keys: Any) -> Dataset:
    keys = {"limit": None, "test_fraction": 0.2, "validation_fraction": 0.25} | keys
    return grid_dataset(make, (8, 9, 1), SIZES, label="shape", label_names=["a", "b", "c"], **keys)


def place_of(split: Split) -> list[int]:
    """The places of images in the grid, once it is seen that their factors and classes are theirs."""
    places = np.asarray(split.images)[:, 0, 0, 0]
    assert split.factors is not None
    assert split.labels is not None
    np.testing.assert_array_equal(np.ravel_multi_index(tuple(split.factors.T), (3, 5, 7)), places)
    np.testing.assert_array_equal(split.labels, split.factors[:, 0])
    return places.tolist()


def test_a_grid_has_each_combination_once_in_order_and_splits_that_share_none() -> None:
    dataset = grid()
    check_dataset(dataset)
    assert (dataset.factor_names, dataset.factor_sizes) == (["shape", "x", "y"], [3, 5, 7])
    assert dataset.grid is not None
    assert place_of(dataset.grid) == list(range(COUNT))
    members = {name: place_of(split) for name, split in dataset.splits.items()}
    assert {name: len(places) for name, places in members.items()} == {"train": 63, "validation": 21, "test": 21}
    assert sorted(itertools.chain(*members.values())) == list(range(COUNT))
    assert members["train"] != sorted(members["train"])
    assert {name: place_of(split) for name, split in grid().splits.items()} == members


def test_a_limit_cuts_the_splits_and_leaves_the_grid_whole() -> None:
    dataset, whole = grid(limit=10), grid()
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 10, "validation": 10, "test": 10}
    assert place_of(dataset.train) == place_of(whole.train)[:10]
    assert dataset.grid is not None
    assert len(dataset.grid) == COUNT


def test_factors_are_selected_with_their_images() -> None:
    train = grid().train
    everything = place_of(train)
    for key in (slice(4), slice(3, 50, 7), np.array([5, 1, 1, 60])):
        assert place_of(train.select(key)) == np.array(everything)[key].tolist()
    assert place_of(train.first(2)) == everything[:2]


def test_factors_go_with_images_in_memory_into_validation_and_limit() -> None:
    split = Split(
        make(np.arange(COUNT)), np.arange(COUNT) // 35, np.stack(np.unravel_index(np.arange(COUNT), (3, 5, 7)), 1)
    )
    dataset = make_dataset(split, split.first(9), ["a", "b", "c"], limit=15, validation_fraction=0.2, image_size=16)
    assert {name: len(place_of(part)) for name, part in dataset.splits.items()} == {
        "train": 15, "validation": 15, "test": 9,
    }  # fmt: skip


def test_binary_images_have_their_factors_and_a_grid() -> None:
    keys = {"image_size": 8, "shapes": ["square"], "scales": 1, "orientations": 2, "positions_x": 4, "positions_y": 4}
    target = {"_target_": "vae_runner.datasets.sprites.load", "test_fraction": 0.25, **keys}
    grey, binary = (build_dataset({**target, "binarize": how}) for how in ("none", "static"))
    assert grey.grid is not None
    assert binary.grid is not None
    np.testing.assert_array_equal(grey.train.factors, binary.train.factors)
    np.testing.assert_array_equal(grey.grid.factors, binary.grid.factors)
    assert set(np.unique(np.asarray(binary.grid.images))) == {0, 255}
    assert len(np.unique(np.asarray(grey.grid.images))) > 2


@pytest.mark.parametrize(
    ("changed", "mentions"),
    [
        ({"factor_sizes": [3, 5]}, ["3 names", "sizes of 2"]),
        ({"factor_names": [], "factor_sizes": []}, ["train", "none"]),
        ({"factor_sizes": [3, 5, 6]}, ["train", "sizes"]),
        ({"train": {"factors": None}}, ["train", "shape"]),
        ({"test": {"factors": np.zeros((21, 2), np.int64)}}, ["test", "(21, 2)", "(21, 3)"]),
        ({"test": {"factors": np.zeros((21, 3))}}, ["test", "float64", "integers"]),
        ({"test": {"factors": np.full((21, 3), -1)}}, ["test", "below 0"]),
    ],
)
def test_factors_that_are_not_of_the_images_are_refused(changed: dict[str, Any], mentions: list[str]) -> None:
    dataset = grid()
    for name, value in changed.items():
        new = replace(getattr(dataset, name), **value) if isinstance(value, dict) else value
        dataset = replace(dataset, **{name: new})
    with refused(*mentions):
        check_dataset(dataset)


def test_factors_are_no_part_of_what_makes_data_the_same(small_dataset: Dataset) -> None:
    named = replace(
        small_dataset,
        train=replace(small_dataset.train, factors=np.zeros((50, 1), np.int64)),
        test=replace(small_dataset.test, factors=np.zeros((20, 1), np.int64)),
        factor_names=["one"], factor_sizes=[1],
    )  # fmt: skip
    check_dataset(named)
    assert named.fingerprint == small_dataset.fingerprint


# --- images that are made when they are asked for -----------------------------------------------------------------


def test_made_images_are_indexed_like_the_array_they_are() -> None:
    numbers = np.random.default_rng(0).permutation(COUNT)
    images, array = MadeImages(make, (8, 9, 1), numbers), make(numbers)
    for key in (3, -1, [5, 1, 8], np.array([2, 2]), slice(4, 9), slice(None, None, -3), array[:, 0, 0, 0] < 9):
        np.testing.assert_array_equal(np.asarray(images[key]), array[key])
    assert isinstance(images[2:8], MadeImages)
    assert (images.shape, images.dtype, len(images)) == (array.shape, array.dtype, COUNT)
    with pytest.raises(IndexError):
        images[COUNT]


def test_a_view_of_made_images_makes_none_and_an_array_of_them_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        made.append(len(places))
        return make(places)

    monkeypatch.setattr("vae_runner.datasets.io.made.CHUNK_BYTES", 720)
    view = MadeImages(counted, (8, 9, 1), np.arange(COUNT))[5:30]
    assert made == []
    np.testing.assert_array_equal(np.asarray(view), make(np.arange(5, 30)))
    assert made == [10, 10, 5]
