"""Which files of a folder become images, and what is reported of the others."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import command
from tests.datasets.conftest import idx_parts, numbers, refused, write_idx, write_image, write_numbered
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.folder import load
from vae_runner.datasets.io.image_files import find_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders of ten numbered images, which are found whatever else is there."""
    for first, name in enumerate(["cats", "dogs"]):
        for number in range(10):
            write_image(tmp_path / "photos" / name / f"{number}.png", 100 * first + number)
    return tmp_path / "photos"


def prepare(root: Path, **settings: Any) -> Dataset:
    return load(root=str(root), data_dir=str(root.parent / "data"), image_size=8, **settings)


def values(dataset: Dataset) -> list[int]:
    return sorted(number for split in dataset.splits.values() for number in numbers(split.images))


ALL = sorted([*range(10), *range(100, 110)])


# --- passed over ----------------------------------------------------------------------------------------------


def test_what_runs_draw_below_the_images_is_no_image(tmp_path: Path) -> None:
    """The command as a user gives it twice, among the photos."""
    photos = tmp_path / "photos"
    write_numbered(photos, 12)
    for _ in range(2):
        ended = command(
            "vae-run", "dataset=folder", "dataset.root=.", "dataset.image_size=8", "epochs=1", "batch_size=8",
            "figures.every=0", "model=mlp", "data_dir=data", cwd=photos,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    drawn = [path for path in photos.rglob("*.png") if path.parent != photos]
    assert drawn
    assert "run directories: 2 (like outputs" in ended.stdout + ended.stderr
    assert "folders of prepared images: 1 (like data" in ended.stdout + ended.stderr
    assert find_images(photos).files == sorted(photos.glob("*.png"))


@pytest.mark.parametrize(
    ("marker", "kind"), [("run.json", "run directories"), ("sweep.json", "sweep directories"), ("", "")]
)
def test_what_was_written_here_is_known_by_its_marker_and_not_by_its_name(photos: Path, marker: str, kind: str) -> None:
    write_image(photos / "outputs" / "x" / "figures" / "samples.png", 50)
    if marker:
        (photos / "outputs" / "x" / marker).touch()
    found = find_images(photos)
    assert len(found.files) == (20 if marker else 21)
    assert found.passed_over == (f"{kind}: 1 (like outputs/x)" if marker else "")
    assert len(find_images(photos / "outputs" / "x").files) == 1  # it is what the user asked for


PASSED_OVER = {
    ".heic": ["cats/a.heic", "cats/B.HEIC"],
    ".tif": ["x.tif"],
    ".avif": ["dogs/deeper/x.avif"],
    ".svg": ["x.svg"],
    "hidden files": [".hidden.png", "cats/._1.png"],
    "hidden folders": [".thumbnails/1.png"],
    "thumbnails": ["cats/@eaDir/1.png/SYNOPHOTO_THUMB_S.jpg", "__MACOSX/cats/1.png"],
    "other files": ["notes.txt", "cats/1.csv", "png"],
    "lead nowhere": ["birds"],
}


def test_whatever_is_passed_over_is_counted_by_kind_in_one_line(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in [name for names in PASSED_OVER.values() for name in names]:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    (photos / "birds").unlink()
    (photos / "birds").symlink_to("/media/not mounted/birds")
    (photos / "empty" / "deeper").mkdir(parents=True)
    with caplog.at_level(logging.INFO):
        dataset = prepare(photos)
    assert values(dataset) == ALL
    (said,) = [message for message in caplog.messages if "Passed over" in message]
    for kind, names in PASSED_OVER.items():
        assert f"{kind}: {len(names)} (like " in said.replace(" and the like", "")
    assert "folders without an image: 2 (like dogs/deeper)" in said  # and empty/, with what is in it
    assert "\n" not in said


def test_nothing_is_logged_where_nothing_is_passed_over(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prepare(photos)
    assert "Passed over" not in caplog.text


def test_a_folder_of_other_formats_only_says_which(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "IMG_1.HEIC").touch()
    with refused("holds no image", "a format that is not read, .heic: 1 (like IMG_1.HEIC)"):
        prepare(tmp_path / "photos")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF"])
def test_jpegs_of_other_names_are_read(photos: Path, suffix: str) -> None:
    write_image(photos / "x.jpg", 50).rename(photos / f"x{suffix}")
    assert values(prepare(photos)) == sorted([*ALL, 50])


# --- links ----------------------------------------------------------------------------------------------------


def test_a_class_may_be_a_link(photos: Path, tmp_path: Path) -> None:
    (photos / "dogs").rename(tmp_path / "elsewhere")
    (photos / "dogs").symlink_to(tmp_path / "elsewhere")
    dataset = prepare(photos, labels="folders")
    assert values(dataset) == ALL
    assert dataset.label_names == ["cats", "dogs"]


def test_links_neither_go_in_circles_nor_give_an_image_twice(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_image(tmp_path / "elsewhere" / "x.png", 50)
    for name, target in {
        "a link": photos / "dogs", "cats/up": photos, "cats/here": ".", "out": tmp_path, "out2": "/",
        "one": tmp_path / "elsewhere", "two": tmp_path / "elsewhere",
    }.items():  # fmt: skip
        (photos / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    (photos / "itself").symlink_to("itself")
    found = find_images(photos)
    expected = [photos / folder / f"{number}.png" for folder in ("cats", "dogs") for number in range(10)]
    assert found.files == sorted([*expected, photos / "one" / "x.png"])
    assert "read anyway, or around these: 7 (like " in found.passed_over
    assert "lead nowhere: 1 (like itself)" in found.passed_over


def test_the_root_may_be_a_link(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    (photos / "up").symlink_to(tmp_path / "link")
    assert len(find_images(tmp_path / "link").files) == 20


# --- splits ---------------------------------------------------------------------------------------------------


def write_splits(root: Path, *names: str) -> Path:
    """Two classes in each of the folders `names`; the hundreds of the grey value are the number of the folder."""
    for number, name in enumerate(names):
        for i in range(10 - 2 * number):
            write_image(root / name / ("cats" if i % 2 else "dogs") / f"{i}.png", 80 * number + i)
    return root


def members(dataset: Dataset) -> dict[str, list[int]]:
    return {name: sorted(numbers(split.images)) for name, split in dataset.splits.items()}


TRAIN, SECOND, THIRD = list(range(10)), list(range(80, 88)), list(range(160, 166))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "test"], {"train": TRAIN, "test": SECOND}),
        (["train", "test", "val"], {"train": TRAIN, "test": SECOND, "validation": THIRD}),
        (["train", "test", "validation"], {"train": TRAIN, "test": SECOND, "validation": THIRD}),
        (["Training", "Testing", "Valid"], {"train": TRAIN, "test": SECOND, "validation": THIRD}),
        (["train", "val"], {"train": TRAIN, "test": SECOND}),
    ],
)
def test_folders_called_like_splits_are_the_splits(
    tmp_path: Path, names: list[str], expected: dict[str, list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_splits(tmp_path / "photos", *names)
    (root / "readme.png").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        dataset = prepare(root, labels="folders", test_fraction=0.5)
    assert members(dataset) == expected
    assert dataset.label_names == ["cats", "dogs"]
    for split in dataset.splits.values():
        assert split.labels is not None
        assert [number % 2 == 0 for number in numbers(split.images)] == split.labels.astype(bool).tolist()
    sizes = " and ".join(f"{len(part)} {name}" for name, part in expected.items())
    (said,) = [message for message in caplog.messages if "are splits" in message]
    assert sorted(sizes.split(" and ")) == sorted(said.split("of ")[2].split(" images")[0].split(" and "))
    assert "beside the folders of the splits: 1 (like readme.png)" in caplog.text


def test_validation_images_are_split_off_where_they_have_no_folder(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "photos", "train", "test")
    parts = members(prepare(root, validation_fraction=0.3))
    assert {name: len(part) for name, part in parts.items()} == {"train": 7, "validation": 3, "test": 8}
    assert sorted(parts["train"] + parts["validation"]) == TRAIN
    assert parts["test"] == SECOND


@pytest.mark.parametrize("names", [["train", "bus"], ["test", "val"], ["train"]])
def test_other_folders_are_no_splits(tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    root = write_splits(tmp_path / "photos", *names)
    (root / "test" / "empty").mkdir(parents=True, exist_ok=True)
    with caplog.at_level(logging.INFO):
        dataset = prepare(root, labels="folders")
    assert sorted({Path(name).parts[0] for name in dataset.label_names}) == sorted(names)
    assert "are splits" not in caplog.text


# --- labels ---------------------------------------------------------------------------------------------------


def test_labels_of_a_flat_folder_are_refused(tmp_path: Path) -> None:
    write_numbered(tmp_path / "photos", 12)
    with refused("dataset.labels=folders", "directly in", tmp_path / "photos", "leave dataset.labels out"):
        prepare(tmp_path / "photos", labels="folders")
    for split in ("train", "test"):
        write_numbered(tmp_path / "split" / split, 12)
    with refused("dataset.labels=folders", "directly in"):
        prepare(tmp_path / "split", labels="folders")


def test_the_class_of_images_beside_the_sub_folders_is_logged(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(photos / "x.png", 50)
    with caplog.at_level(logging.INFO):
        dataset = prepare(photos, labels="folders")
    assert dataset.label_names == [".", "cats", "dogs"]
    assert "Without a sub-folder of their own: 1 image, of the class '.'" in caplog.messages


# --- what may not be read -------------------------------------------------------------------------------------

AS_NOBODY = """
import os
from PIL import Image
from vae_runner.errors import UserError
from vae_runner.datasets import {module}
Image.init()  # imports what it needs, some of which may lie where nobody may read
os.setgid(65534)
os.setuid(65534)
try:
    {module}.load(root={root!r}, data_dir={data_dir!r}, {settings})
except UserError as error:
    print(error)
"""


def said_to_nobody(root: Path, module: str, settings: str) -> str:
    """What `load` refuses with for a user who owns nothing."""
    code = AS_NOBODY.format(module=module, root=str(root), data_dir=str(root.parent / "data"), settings=settings)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1
    return ended.stdout


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can come to and write into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@as_root
@pytest.mark.parametrize("what", ["photos", "photos/dogs", "photos/dogs/1.png", ".", "photos/dogs entered only"])
def test_images_that_may_not_be_read_are_not_called_damaged(public: Path, what: str) -> None:
    photos = public / "photos"
    for number in range(3):
        write_image(photos / "cats" / f"{number}.png", number)
        write_image(photos / "dogs" / f"{number}.png", number)
    target = public / what.removesuffix(" entered only")
    if what == ".":
        target = public / "around"
        target.mkdir()
        photos = photos.rename(target / "photos")
    target.chmod(0o644 if "entered" in what else 0)
    said = said_to_nobody(photos, "folder", "image_size=8")
    assert "cannot be read (Permission denied)" in said
    assert str(photos if what == "." else target) in said
    assert "damaged" not in said
    assert "replace" not in said


@as_root
@pytest.mark.parametrize("what", ["mnist", "mnist/train-labels-idx1-ubyte.gz"])
def test_idx_files_that_may_not_be_read_are_not_called_damaged(public: Path, what: str) -> None:
    root = write_idx(public / "mnist", idx_parts(7))
    (public / what).chmod(0)
    said = said_to_nobody(root, "mnist", "url='https://nowhere.invalid'")
    assert said.startswith(str(public / what))
    assert "cannot be read (Permission denied)" in said
    assert "damaged" not in said
    assert "delete" not in said


def test_an_unreadable_image_can_be_skipped(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def denied(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == photos / "dogs" / "1.png":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", denied)
    with refused(photos / "dogs" / "1.png", "cannot be read (Permission denied)", "on_error=skip"):
        prepare(photos)
    assert values(prepare(photos, on_error="skip")) == [number for number in ALL if number != 101]


def test_a_root_with_an_impossible_name_is_one_line(tmp_path: Path) -> None:
    with refused("cannot be read (File name too long)"):
        prepare(tmp_path / ("x" * 300))
