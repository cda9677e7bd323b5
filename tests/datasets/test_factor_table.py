"""Factors of one's own images, in a CSV."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import numbers, refused, write_image, write_numbered
from vae_runner.datasets import folder
from vae_runner.datasets.dataset import Dataset, check_dataset

COUNT = 12
COLOURS = ["red", "blue", "green"]


def write(path: Path, *, names: list[str] | None = None, header: str = "file,size,colour") -> Path:
    """A table of `COUNT` images, in an order of its own: sizes 10, 20, 30, 40 and three colours."""
    names = names or [f"{number:02}.png" for number in range(COUNT)]
    lines = [f"{name},{10 * (number % 4 + 1)},{COLOURS[number % 3]}" for number, name in enumerate(names)]
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    return path


def load(tmp_path: Path, table: Path, **keys: Any) -> Dataset:
    keys = {"image_size": 8, "channels": 1, "test_fraction": 0.25} | keys
    root = tmp_path / "photos"
    return folder.load(root=str(root), data_dir=str(tmp_path / "data"), factors=str(table), **keys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_numbered(tmp_path / "photos", COUNT)
    return write(tmp_path / "factors.csv")


def check_members(dataset: Dataset) -> None:
    """Refuse factors that are not those which `write` wrote for the number of each image."""
    check_dataset(dataset)
    assert (dataset.factor_names, dataset.factor_sizes, dataset.grid) == (["size", "colour"], [4, 3], None)
    for split in dataset.splits.values():
        expected = [[number % 4, sorted(COLOURS).index(COLOURS[number % 3])] for number in numbers(split.images)]
        assert split.factors is not None
        assert split.factors.dtype == np.int64
        assert split.factors.tolist() == expected


def test_each_image_has_the_factors_of_its_line(tmp_path: Path, table: Path) -> None:
    dataset = load(tmp_path, table, validation_fraction=0.2)
    check_members(dataset)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 7, "validation": 2, "test": 3}
    without = folder.load(
        root=str(tmp_path / "photos"), data_dir=str(tmp_path / "data"),
        image_size=8, channels=1, test_fraction=0.25, validation_fraction=0.2,
    )  # fmt: skip
    assert without.fingerprint == dataset.fingerprint
    assert without.train.factors is None


def test_a_limit_leaves_every_value_its_number(tmp_path: Path, table: Path) -> None:
    check_members(load(tmp_path, table, limit=2))


def test_a_broken_image_takes_its_factors_with_it(tmp_path: Path, table: Path) -> None:
    for name in ("03.png", "08.png"):
        (tmp_path / "photos" / name).write_bytes(b"no image")
    dataset = load(tmp_path, table, on_error="skip")
    check_members(dataset)
    assert len(dataset.train) + len(dataset.test) == COUNT - 2


def test_paths_are_below_the_root_in_folders_of_splits_too(tmp_path: Path) -> None:
    names = [f"{'test' if number < 4 else 'train'}/a b/{number:02}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        write_image(tmp_path / "photos" / name, number)
    dataset = load(tmp_path, write(tmp_path / "factors.csv", names=names))
    check_members(dataset)
    assert sorted(numbers(dataset.test.images)) == [0, 1, 2, 3]
    check_members(load(tmp_path, write(tmp_path / "dots.csv", names=[f"./{name}" for name in names])))


def test_spreadsheets_may_write_it(tmp_path: Path, table: Path) -> None:
    table.write_bytes(b"\xef\xbb\xbf" + table.read_text().replace("red", '"red"').replace("\n", "\r\n\r\n").encode())
    check_members(load(tmp_path, table))


def changed(line: int, old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.split("\n")
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new)
        return "\n".join(lines)

    return change


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        (changed(4, "09.png", "99.png"), ["line 4", "no image 99.png among"]),
        (changed(4, "09.png", "08.png"), ["line 5", "08.png", "line 4 already"]),
        (changed(13, "00.png,10,red", ""), ["no line for 00.png", "1 of 12"]),
        (lambda text: "\n".join(text.split("\n")[:9]), ["no line for 00.png", "4 of 12"]),
        (changed(5, "10,", ","), ["line 5", "no value of size"]),
        (changed(5, "10,", "0.5,"), ["line 5", "size=0.5", "integers"]),
        (changed(5, "10,", "large,"), ["line 5", "size=large"]),
        (changed(5, "green", "7"), ["line 5", "colour=7", "words"]),
        (changed(5, "green", "nan"), ["line 5", "colour=nan", "words"]),
        (changed(5, "green", "green,1"), ["line 5", "4 columns", "3"]),
        (changed(5, ",green", ""), ["line 5", "2 columns", "3"]),
        (changed(1, "size", "colour"), ["line 1", "no two alike"]),
        (changed(1, ",size,colour", ""), ["line 1", "each factor"]),
        (changed(3, "10.png", '"10.png'), ["CSV"]),
        (lambda text: "", ["line 1"]),
        (lambda text: text + "\udcff", ["CSV"]),
    ],
)  # fmt: skip
def test_a_table_that_is_not_of_the_images_is_refused_by_line(
    tmp_path: Path, table: Path, change: Callable[[str], str], mentions: list[str]
) -> None:
    table.write_bytes(change(table.read_text()).encode(errors="surrogateescape"))
    with refused(f"dataset.factors={table}", *mentions):
        load(tmp_path, table)


def test_what_is_no_file_is_refused(tmp_path: Path, table: Path, refusal: Callable[..., str]) -> None:
    for path in (tmp_path / "photos", tmp_path / "nothing.csv"):
        with refused(f"dataset.factors={path}", "CSV"):
            load(tmp_path, path)
    said = refusal("vae-run", "dataset=folder", "dataset.root=photos", "dataset.factors=nothing.csv", cwd=tmp_path)
    assert "dataset.factors=nothing.csv: there is no such file" in said
