"""`dataset=mnist dataset.binarize=static` with the published files of the binarisation beside the grey images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import IDX_NAMES, write_idx
from vae_runner.datasets.binarization import build_dataset
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.mnist import BINARY
from vae_runner.errors import UserError

COUNTS = {"train": 5, "valid": 3, "test": 4}
BITS = {part: np.random.default_rng(n).integers(0, 2, (count, 784)) for n, (part, count) in enumerate(COUNTS.items())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Grey images, all black, and the three files, whose lines end as they do on different systems."""
    write_idx(tmp_path, {part: np.zeros((6, 28, 28) if "images" in part else 6, np.uint8) for part in IDX_NAMES})
    for (part, name), end in zip(BINARY.items(), (" \n", "\r\n", "\n"), strict=True):
        np.savetxt(tmp_path / name, BITS[part], "%d", newline=end)
    return tmp_path


def mnist(folder: Path, binarize: str = "static", **keys: Any) -> Dataset:
    target = {"_target_": "vae_runner.datasets.mnist.load", "root": str(folder), "data_dir": "", "url": ""}
    return build_dataset({**target, "binarize": binarize, **keys})


def images_of(part: str) -> np.ndarray:
    return 255 * BITS[part].astype(np.uint8).reshape(-1, 28, 28, 1)


def test_the_images_are_those_of_the_files_and_have_no_classes(folder: Path) -> None:
    dataset = mnist(folder)
    np.testing.assert_array_equal(dataset.train.images, np.concatenate([images_of("train"), images_of("valid")]))
    np.testing.assert_array_equal(dataset.test.images, images_of("test"))
    assert dataset.validation is None
    assert not dataset.classes
    assert dataset.binarize == "static"


def test_a_validation_fraction_asks_for_the_validation_file(folder: Path) -> None:
    dataset = mnist(folder, validation_fraction=0.1, limit=2, image_size=32)
    assert dataset.validation is not None
    for split, part in ((dataset.train, "train"), (dataset.validation, "valid"), (dataset.test, "test")):
        np.testing.assert_array_equal(np.asarray(split.images)[:, 2:-2, 2:-2], images_of(part)[:2])


@pytest.mark.parametrize("binarize", ["none", "threshold", "dynamic"])
def test_other_choices_have_the_grey_images(folder: Path, binarize: str) -> None:
    dataset = mnist(folder, binarize)
    assert not np.asarray(dataset.train.images).any()
    assert dataset.classes


def test_without_the_files_a_fixed_draw_of_the_grey_images_stands_in(folder: Path) -> None:
    for name in BINARY.values():
        (folder / name).unlink()
    assert not np.asarray(mnist(folder).train.images).any()
    assert mnist(folder).classes


@pytest.mark.parametrize("content", [b"", b"0 1 0\n", b"0 2 " * 392, b"0 1 " * 392 + b"\x00"])
def test_a_damaged_file_is_named(folder: Path, content: bytes) -> None:
    (folder / BINARY["valid"]).write_bytes(content)
    with pytest.raises(UserError, match=r"binarized_mnist_valid\.amat is not of lines of 784 zeros and ones"):
        mnist(folder)


def test_a_missing_one_of_the_three_is_named(folder: Path) -> None:
    (folder / BINARY["test"]).unlink()
    with pytest.raises(UserError, match=r"binarized_mnist_test\.amat cannot be read .* with the other two"):
        mnist(folder)


def test_a_size_that_makes_grey_pixels_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"image_size=64: the binary images of .* stay black and white at 32 alone"):
        mnist(folder, image_size=64)
