"""What tells that data is other data, and what does not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import write_numbered
from vae_runner.datasets import dataset as datasets
from vae_runner.datasets import folder
from vae_runner.datasets.dataset import Dataset, Split, data_changes, is_fingerprint
from vae_runner.datasets.io import prepared
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.files.sealed import seal, unseal

Fingerprint = dict[str, dict[str, Any]]


def changed(split: Split, index: Any, *, labels: bool = False) -> Split:
    """A copy of which one pixel, or label, is another."""
    images = split.images.copy()
    assert split.labels is not None
    classes = split.labels.copy()
    array = classes if labels else images
    array[index] += 1
    return Split(images, classes)


def test_equal_content_has_equal_fingerprints_and_says_how_many_images(small_dataset: Dataset) -> None:
    same = Dataset(*(Split(s.images.copy(), s.labels) for s in (small_dataset.train, small_dataset.test)))
    assert same.fingerprint == small_dataset.fingerprint
    assert {name: split["images"] for name, split in same.fingerprint.items()} == {"train": 50, "test": 20}
    assert is_fingerprint(same.fingerprint)
    assert json.loads(json.dumps(same.fingerprint)) == same.fingerprint


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("place", [0, 17, 49])
def test_one_pixel_or_label_makes_other_content_of_its_split_alone(
    small_dataset: Dataset, place: int, labels: bool
) -> None:
    index = (place,) if labels else (place, 3, 4, 0)
    other = replace(small_dataset, train=changed(small_dataset.train, index, labels=labels))
    changes = data_changes(small_dataset.fingerprint, other.fingerprint)
    assert changes == "train: the same number, 50, of other content"


@pytest.mark.parametrize(
    "make", [lambda a: a[::-1], lambda a: a.transpose(0, 2, 1, 3), lambda a: a.reshape(-1, 4, 16, 1)]
)
def test_another_order_or_shape_is_other_content(small_dataset: Dataset, make: Any) -> None:
    other = replace(small_dataset, train=replace(small_dataset.train, images=make(small_dataset.train.images)))
    assert data_changes(small_dataset.fingerprint, other.fingerprint) == "train: the same number, 50, of other content"


def test_another_split_of_the_same_images_is_described_split_by_split(small_dataset: Dataset) -> None:
    train = small_dataset.train
    assert train.labels is not None
    validation = Split(train.images[40:], train.labels[40:])
    other = replace(small_dataset, train=train.first(40), validation=validation)
    assert data_changes(small_dataset.fingerprint, other.fingerprint) == (
        "train: 50 images then, 40 now; validation: 0 images then, 10 now"
    )
    swapped = replace(small_dataset, train=small_dataset.test, test=train)
    assert data_changes(small_dataset.fingerprint, swapped.fingerprint) == (
        "train: 50 images then, 20 now; test: 20 images then, 50 now"
    )


def test_what_is_not_known_has_not_changed(small_dataset: Dataset) -> None:
    assert data_changes({}, small_dataset.fingerprint) == ""
    assert data_changes(small_dataset.fingerprint, small_dataset.fingerprint) == ""


def test_a_split_without_images_may_be_in_one_fingerprint_alone(small_dataset: Dataset) -> None:
    now = small_dataset.fingerprint
    then = {**now, "other": {"images": 0, "content": ""}}  # in a run directory from someone else
    assert is_fingerprint(then)
    assert data_changes(then, now) == "other: the same number, 0, of other content"


class Counting:
    """Images that are made when they are asked for, and count how many that were."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int) -> None:
        self.shape = (count, 8, 8, 1)
        self.asked = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> Any:
        self.asked += len(chosen)
        return np.broadcast_to((chosen % 251).astype(np.uint8)[:, None, None, None], (len(chosen), *self.shape[1:]))


def test_of_images_that_are_not_in_memory_at_most_a_sample_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = Counting(300), Counting(10_000_000)
    assert len({str(Dataset(Split(images), Split(images)).fingerprint) for images in (few, many)}) == 2
    assert few.asked == 2 * 300
    assert many.asked == 2 * datasets.SAMPLE_IMAGES
    monkeypatch.setattr(datasets, "SAMPLE_BYTES", 640)
    assert Dataset(Split(many := Counting(100)), Split(np.zeros((1, 8, 8, 1), np.uint8))).fingerprint
    assert many.asked == 10


def test_images_in_a_file_without_digests_are_distinguished_from_others(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    found = []
    for value in (array, array, array[::-1]):
        np.save(tmp_path / "images.npy", value)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        found.append(Dataset(Split(mapped[5:]), Split(mapped[:5])).fingerprint)
    assert found[0] == found[1]
    assert all(found[0][name] != found[2][name] for name in ("train", "test"))


# --- a folder of images ---------------------------------------------------------------------------------------------


def fingerprint(root: Path, data_dir: Path, **keys: Any) -> Fingerprint:
    return folder.load(root=str(root), data_dir=str(data_dir), image_size=8, **keys).fingerprint


def test_the_same_pictures_elsewhere_and_at_another_time_are_the_same_data(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 20)
    first = fingerprint(tmp_path / "a", tmp_path / "data")
    assert fingerprint(tmp_path / "a", tmp_path / "data") == first  # from what is prepared
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    for picture in sorted((tmp_path / "b").iterdir()):
        picture.rename(picture.with_name(f"renamed_{picture.name}"))
    assert fingerprint(tmp_path / "b", tmp_path / "other") == first


def test_another_picture_number_order_or_fraction_is_other_data(tmp_path: Path) -> None:
    pictures = write_numbered(tmp_path / "a", 20)
    first = fingerprint(tmp_path / "a", tmp_path / "data")
    assert data_changes(first, fingerprint(tmp_path / "a", tmp_path / "data", test_fraction=0.2)) == (
        "train: 18 images then, 16 now; test: 2 images then, 4 now"
    )
    shutil.copyfile(pictures[0], tmp_path / "a" / "zzz.png")
    assert data_changes(first, fingerprint(tmp_path / "a", tmp_path / "data")).startswith("train: 18 images then, 19")
    (tmp_path / "a" / "zzz.png").unlink()
    assert fingerprint(tmp_path / "a", tmp_path / "data") == first
    pictures[3].rename(tmp_path / "a" / "swapped.png")
    pictures[4].rename(pictures[3])
    (tmp_path / "a" / "swapped.png").rename(pictures[4])
    assert "of other content" in data_changes(first, fingerprint(tmp_path / "a", tmp_path / "data"))


def test_nothing_is_read_of_prepared_images_to_know_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_numbered(tmp_path / "a", 20)
    first = fingerprint(tmp_path / "a", tmp_path / "data")

    def refuse(*arguments: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(StoredImages, "_read", refuse)
    assert fingerprint(tmp_path / "a", tmp_path / "data") == first


def test_what_was_prepared_without_digests_is_prepared_again(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a", 20)
    first = fingerprint(tmp_path / "a", tmp_path / "data")
    [manifest] = (tmp_path / "data").rglob("manifest.json")
    content = json.loads(manifest.read_text())
    for digests in (None, content["digests"][:-2], "x"):
        lying = seal({**unseal(content, prepared.CHECKSUM), "digests": digests}, prepared.CHECKSUM)
        manifest.write_text(json.dumps(lying))
        assert fingerprint(tmp_path / "a", tmp_path / "data") == first
        assert json.loads(manifest.read_text()) == content
