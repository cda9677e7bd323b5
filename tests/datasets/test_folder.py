import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import numbers, refused, tree, write_image, write_numbered
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.folder import load
from vae_runner.datasets.io.image_files import find_images
from vae_runner.datasets.io.preprocessing import Preprocessing


def splits(dataset: Dataset) -> dict[str, list[int]]:
    """The numbers of the images of each split."""
    return {name: numbers(split.images) for name, split in dataset.splits.items()}


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path / "data")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twenty numbered images."""
    write_numbered(tmp_path / "photos", 20)
    return tmp_path / "photos"


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Ten cats of grey value 100 + i, ten dogs of 200 + i, and one that is neither, of 50."""
    for i in range(10):
        write_image(tmp_path / "animals" / "cats" / f"{i}.png", 100 + i)
        write_image(tmp_path / "animals" / "dogs" / "big" / f"{i}.png", 200 + i)
    write_image(tmp_path / "animals" / "unknown.png", 50)
    return tmp_path / "animals"


# --- which files ----------------------------------------------------------------------------------------------


def test_every_kind_of_image_is_found_however_deep(tmp_path: Path, data_dir: str) -> None:
    root = tmp_path / "photos"
    names = [
        "a.png", "b.jpg", "c.jpeg", "d.bmp", "e.gif", "f.webp",
        "g.PNG", "h.JPG", "i.Jpeg", "sub/j.BMP", "sub/deeper/k.GIF", "with space/l.WebP",
    ]  # fmt: skip
    for value, name in enumerate(names):
        write_image(root / name, 20 * value)
    for other in ("notes.txt", "a.png.txt", "png", ".hidden.png", ".hidden/m.png", "a.csv"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_text("no image")
    (root / "folder.png").mkdir()

    assert find_images(root).files == sorted(root / name for name in names)
    dataset = load(root=str(root), data_dir=data_dir, image_size=[8, 9], channels=1, test_fraction=0.25)
    assert dataset.image_shape == (8, 9, 1)
    values = sorted(splits(dataset)["train"] + splits(dataset)["test"])
    np.testing.assert_allclose(values, 20 * np.arange(len(names)), atol=3)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("missing", "does not exist"), ("file", "is not a folder"), ("empty", "no image"), ("texts", "no image")],
)
def test_a_root_without_images_is_refused(tmp_path: Path, data_dir: str, kind: str, said: str) -> None:
    root = tmp_path / "photos"
    if kind == "file":
        write_image(tmp_path / "x.png", 1).rename(root)
    elif kind != "missing":
        root.mkdir()
        if kind == "texts":
            (root / "notes.txt").touch()
    with refused(root, said):
        load(root=str(root), data_dir=data_dir, image_size=8)
    assert not Path(data_dir).exists()


def test_no_root_is_refused(data_dir: str) -> None:
    with refused("dataset.root"):
        load(root=None, data_dir=data_dir, image_size=8)


def test_a_folder_that_may_not_be_read_is_named(animals: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def denied(path: Any) -> Any:
        if Path(path).name == "dogs":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with refused(animals / "dogs", "Permission denied"):
        load(root=str(animals), data_dir=data_dir, image_size=8)


def test_a_tilde_is_the_home_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = load(root="~/photos", data_dir="~/cache", image_size=8)
    assert len(dataset.train) == 18
    assert (tmp_path / "cache" / "prepared").is_dir()


# --- splits ---------------------------------------------------------------------------------------------------


def test_splits_have_their_sizes_and_share_no_image(photos: Path, data_dir: str) -> None:
    dataset = load(root=str(photos), data_dir=data_dir, image_size=8, test_fraction=0.2, validation_fraction=0.25)
    parts = splits(dataset)
    assert {name: len(part) for name, part in parts.items()} == {"train": 12, "validation": 4, "test": 4}
    assert sorted(parts["train"] + parts["validation"] + parts["test"]) == list(range(20))
    assert sorted(parts["test"]) != parts["test"]  # not simply the first or last files
    assert dataset.label_names == ()
    assert dataset.train.labels is None


def test_splits_are_the_same_in_every_run(photos: Path, data_dir: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"root": str(photos), "image_size": 8, "test_fraction": 0.2, "validation_fraction": 0.25}
    first = splits(load(data_dir=data_dir, **settings))
    assert splits(load(data_dir=data_dir, **settings)) == first
    assert splits(load(data_dir=str(tmp_path / "elsewhere"), **settings)) == first


def test_validation_images_are_taken_from_the_training_images(photos: Path, data_dir: str) -> None:
    without = splits(load(root=str(photos), data_dir=data_dir, image_size=8))
    parts = splits(load(root=str(photos), data_dir=data_dir, image_size=8, validation_fraction=0.5))
    assert "validation" not in without
    assert parts["test"] == without["test"]
    assert parts["validation"] + parts["train"] == without["train"]


def test_other_fractions_use_the_prepared_images(photos: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load(root=str(photos), data_dir=data_dir, image_size=8)
    monkeypatch.setattr(Preprocessing, "__call__", lambda *_: pytest.fail("was decoded again"))
    dataset = load(root=str(photos), data_dir=data_dir, image_size=8, test_fraction=0.5, validation_fraction=0.3)
    assert [len(split) for split in dataset.splits.values()] == [7, 3, 10]
    assert sorted(number for part in splits(dataset).values() for number in part) == list(range(20))


def test_the_prepared_images_are_used_however_the_folder_is_written(
    photos: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = splits(load(root=str(photos), data_dir=data_dir, image_size=8))
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(Preprocessing, "__call__", lambda *_: pytest.fail("was decoded again"))
    assert splits(load(root="photos", data_dir=data_dir, image_size=[8, 8])) == first


def test_limit_takes_the_first_of_each_split(photos: Path, data_dir: str) -> None:
    settings: dict[str, Any] = {"root": str(photos), "image_size": 8, "test_fraction": 0.2, "validation_fraction": 0.25}
    whole = splits(load(data_dir=data_dir, **settings))
    limited = load(data_dir=data_dir, limit=3, **settings)
    assert splits(limited) == {name: part[:3] for name, part in whole.items()}


def test_of_a_split_smaller_than_the_limit_all_images_are_taken_and_the_log_says_so(
    photos: Path, data_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        dataset = load(root=str(photos), data_dir=data_dir, image_size=8, limit=3)
    assert [len(split) for split in dataset.splits.values()] == [3, 2]
    assert "dataset.limit=3: there are only 2 test images, all of which are taken" in caplog.messages


def test_limit_decodes_no_more_than_it_takes(photos: Path, data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names, decode = [], Preprocessing.__call__

    def remember(self: Preprocessing, path: Path) -> Any:
        names.append(path.name)
        return decode(self, path)

    monkeypatch.setattr(Preprocessing, "__call__", remember)
    load(root=str(photos), data_dir=data_dir, image_size=8, limit=2)
    assert len(names) == 4


@pytest.mark.parametrize(
    ("settings", "mentions"),
    [
        ({"test_fraction": 0.99}, ["dataset.test_fraction=0.99", "20 images"]),
        ({"validation_fraction": 0.98}, ["dataset.validation_fraction=0.98", "18 images"]),
    ],
)
def test_a_split_without_an_image_is_refused_before_any_is_decoded(
    photos: Path, data_dir: str, settings: dict[str, Any], mentions: list[str]
) -> None:
    with refused(*mentions):
        load(root=str(photos), data_dir=data_dir, image_size=8, **settings)
    assert not Path(data_dir).exists()


# --- labels ---------------------------------------------------------------------------------------------------


def classes(dataset: Dataset) -> set[tuple[int, str]]:
    """Hundreds of the grey value, and name of the class, of all images."""
    pairs = set()
    for split in dataset.splits.values():
        assert split.labels is not None
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images)
        names = [dataset.label_names[label] for label in split.labels]
        pairs |= {(number // 100, name) for number, name in zip(numbers(split.images), names, strict=True)}
    return pairs


TRUE_CLASSES = {(1, "cats"), (2, os.path.join("dogs", "big")), (0, ".")}  # noqa: PTH118


def test_the_sub_folder_is_the_label(animals: Path, data_dir: str) -> None:
    dataset = load(
        root=str(animals), data_dir=data_dir, image_size=8, labels="folders", test_fraction=0.3, validation_fraction=0.3
    )
    assert dataset.label_names == sorted(name for _, name in TRUE_CLASSES)
    assert classes(dataset) == TRUE_CLASSES


def test_a_class_that_limit_leaves_out_keeps_its_number(animals: Path, data_dir: str) -> None:
    dataset = load(root=str(animals), data_dir=data_dir, image_size=8, labels="folders", limit=1)
    assert len(dataset.label_names) == 3
    assert classes(dataset) <= TRUE_CLASSES


# --- broken images --------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(animals: Path) -> list[Path]:
    """Five of the animals, of both classes, made unreadable in various ways."""
    cats, dogs = animals / "cats", animals / "dogs" / "big"
    broken = [cats / "0.png", cats / "5.png", dogs / "0.png", dogs / "1.png", dogs / "9.png"]
    broken[0].write_bytes(b"")
    broken[1].write_text("not an image")
    broken[2].write_bytes(broken[2].read_bytes()[:40])
    broken[3].write_bytes(broken[3].read_bytes()[:8])
    broken[4].write_bytes(broken[4].read_bytes()[:-30])
    return broken


def test_a_broken_image_is_named_and_nothing_is_left(animals: Path, data_dir: str, damaged: list[Path]) -> None:
    for path in damaged[1:]:
        path.unlink()
    with refused(damaged[0], "is empty", "dataset.on_error=skip"):
        load(root=str(animals), data_dir=data_dir, image_size=8)
    assert tree(Path(data_dir)) == {"prepared"}


def test_labels_stay_with_their_images_when_some_are_skipped(
    animals: Path, data_dir: str, damaged: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        dataset = load(
            root=str(animals), data_dir=data_dir, image_size=8, labels="folders", on_error="skip",
            test_fraction=0.4, validation_fraction=0.4,
        )  # fmt: skip
    assert f"Skipped {len(damaged)} of 21" in caplog.text
    assert classes(dataset) == TRUE_CLASSES
    expected = {50, *(100 + i for i in range(10)), *(200 + i for i in range(10))} - {100, 105, 200, 201, 209}
    assert sorted(number for part in splits(dataset).values() for number in part) == sorted(expected)


def test_a_skipped_image_changes_no_other_split(photos: Path, data_dir: str) -> None:
    settings: dict[str, Any] = {"root": str(photos), "image_size": 8, "test_fraction": 0.3, "validation_fraction": 0.3}
    whole = splits(load(data_dir=data_dir, **settings))
    for number in (whole["test"][1], whole["validation"][0], whole["train"][-1]):
        (photos / f"{number:02}.png").write_bytes(b"")
    rest = splits(load(data_dir=data_dir, on_error="skip", **settings))
    assert rest["test"] == whole["test"][:1] + whole["test"][2:]
    assert rest["validation"] == whole["validation"][1:]
    assert rest["train"] == whole["train"][:-1]


@pytest.mark.parametrize(("split", "said"), [("test", "no test image"), ("train", "no training image")])
def test_a_split_all_of_which_is_broken_is_refused(photos: Path, data_dir: str, split: str, said: str) -> None:
    whole = splits(load(root=str(photos), data_dir=data_dir, image_size=8))
    for number in whole[split]:
        (photos / f"{number:02}.png").write_bytes(b"")
    with refused(photos, said):
        load(root=str(photos), data_dir=data_dir, image_size=8, on_error="skip")


def test_a_validation_split_all_of_which_is_broken_is_refused(photos: Path, data_dir: str) -> None:
    settings: dict[str, Any] = {"root": str(photos), "image_size": 8, "validation_fraction": 0.1}
    whole = splits(load(data_dir=data_dir, **settings))
    for number in whole["validation"]:
        (photos / f"{number:02}.png").write_bytes(b"")
    with refused(photos, "no validation image"):
        load(data_dir=data_dir, on_error="skip", **settings)
