import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tests.conftest import examples
from tests.datasets.conftest import refused
from vae_runner.datasets import digits
from vae_runner.datasets.dataset import Dataset, Split, fixed_order, make_dataset, split_sizes
from vae_runner.errors import UserError

quick = settings(max_examples=examples(100), deadline=None, derandomize=True, database=None)


def numbered(count: int, start: int = 0) -> Split:
    """Images whose pixels, and labels, are their number."""
    values = np.arange(start, start + count)
    return Split(np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (count, 8, 9, 3)), values)


def members(dataset: Dataset) -> dict[str, list[int]]:
    """The numbers of the images of each split, once it is seen that their labels are theirs."""
    found = {}
    for name, split in dataset.splits.items():
        assert split.labels is not None
        assert split.images[:, 0, 0, 0].tolist() == split.labels.tolist()
        found[name] = split.labels.tolist()
    return found


@given(st.integers(2, 10_000), st.floats(0, 1, exclude_max=True))
@quick
def test_the_sizes_of_a_split_add_up(count: int, fraction: float) -> None:
    try:
        stay, part = split_sizes(count, fraction, "test_fraction")
    except UserError:
        assert round(count * fraction) == count
        return
    assert stay + part == count
    assert stay > 0
    assert (part > 0) == (fraction > 0)
    assert abs(part - count * fraction) <= 0.5 or part == 1


def test_one_image_cannot_be_split() -> None:
    with refused("dataset.test_fraction=0.5", "of 1 image "):
        split_sizes(1, 0.5, "test_fraction")
    assert split_sizes(1, 0, "test_fraction") == (1, 0)


def test_the_fixed_order_is_a_permutation_and_never_changes() -> None:
    assert sorted(fixed_order(100)) == list(range(100))
    assert fixed_order(10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]  # other test images would not compare


@given(st.integers(3, 60), st.floats(0, 0.8), st.integers(1, 70) | st.none())
@quick
def test_validation_images_come_out_of_the_training_images(count: int, fraction: float, limit: int | None) -> None:
    whole = members(make_dataset(numbered(count), numbered(7, 100), (), None, fraction))
    assert sorted(whole["train"] + whole.get("validation", [])) == list(range(count))
    assert ("validation" in whole) == (fraction > 0)
    assert whole["test"] == list(range(100, 107))
    limited = members(make_dataset(numbered(count), numbered(7, 100), (), limit, fraction))
    assert limited == {name: part[:limit] for name, part in whole.items()}


def test_validation_images_are_the_same_every_time_and_not_the_first() -> None:
    first, again = (members(make_dataset(numbered(50), numbered(5), (), None, 0.2)) for _ in range(2))
    assert first == again
    assert len(first["validation"]) == 10
    assert first["validation"] != list(range(10))


def test_of_a_split_smaller_than_the_limit_all_images_are_taken_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        dataset = make_dataset(numbered(10), numbered(9), (), 9, 0.2)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 8, "validation": 2, "test": 9}
    (said,) = caplog.messages
    assert said == "dataset.limit=9: there are only 8 training and 2 validation images, all of which are taken"


def test_nothing_is_logged_of_a_limit_that_every_split_reaches(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_dataset(numbered(10), numbered(9), (), 8, 0)
        make_dataset(numbered(10), numbered(9), (), None, 0)
    assert caplog.messages == []


def test_images_without_labels_stay_without() -> None:
    train = Split(numbered(10).images)
    dataset = make_dataset(train, train, (), 3, 0.3)
    assert [split.labels for split in dataset.splits.values()] == [None] * 3
    assert [len(split) for split in dataset.splits.values()] == [3, 3, 3]


def test_a_dataset_knows_the_shape_of_its_images() -> None:
    assert Dataset(numbered(3), numbered(2)).image_shape == (8, 9, 3)


# --- the digits -----------------------------------------------------------------------------------------------


def test_the_digits_are_scikit_learns() -> None:
    dataset = digits.load(test_fraction=0.2)
    assert dataset.image_shape == (8, 8, 1)
    assert (len(dataset.train), len(dataset.test), dataset.validation) == (1438, 359, None)
    assert dataset.label_names == list("0123456789")

    bundle = load_digits()
    levels = bundle.images.astype(np.uint8)
    originals = {image.tobytes(): label for image, label in zip(levels, bundle.target, strict=True)}
    seen = set()
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == np.uint8
        assert split.labels is not None
        for image, label in zip(split.images[..., 0], split.labels, strict=True):
            original = np.round(image / 255 * 16).astype(np.uint8).tobytes()
            assert originals[original] == label
            seen.add(original)
    assert len(seen) == len(originals)


def test_the_digits_use_the_whole_range() -> None:
    images = digits.load(test_fraction=0.2).train.images
    assert np.unique(images).tolist() == [round(level * 255 / 16) for level in range(17)]


def test_the_digits_are_split_the_same_way_every_time_with_all_classes_in_each() -> None:
    first, again = (digits.load(test_fraction=0.2, validation_fraction=0.1) for _ in range(2))
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.images, again.splits[name].images)
        assert np.unique(split.labels).tolist() == list(range(10))
    np.testing.assert_array_equal(first.test.images, digits.load(test_fraction=0.2).test.images)


@pytest.mark.parametrize(("limit", "sizes"), [(359, (359, 359)), (360, (360, 359)), (2000, (1438, 359))])
def test_of_the_digits_as_many_are_taken_as_there_are(limit: int, sizes: tuple[int, int]) -> None:
    dataset = digits.load(test_fraction=0.2, limit=limit)
    assert (len(dataset.train), len(dataset.test)) == sizes
