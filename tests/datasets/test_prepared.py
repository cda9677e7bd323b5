import json
import logging
import os
import platform
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.conftest import damage, full_disk, fuzzed, numbers, refused, tree, write_image, write_numbered
from tests.datasets.test_preprocessing import preprocessing
from vae_runner.datasets.io import prepared
from vae_runner.datasets.io.prepared import WINDOW, prepare
from vae_runner.datasets.io.preprocessing import Preprocessing
from vae_runner.datasets.io.stored import StoredImages

Pixels = np.ndarray[Any, Any]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as they are."""
    names: list[str] = []
    decode = Preprocessing.__call__

    def remember(self: Preprocessing, path: Path) -> Pixels:
        names.append(path.name)
        return decode(self, path)

    monkeypatch.setattr(Preprocessing, "__call__", remember)
    return names


def left(data_dir: Path) -> set[str]:
    """What lies under data_dir/prepared."""
    return tree(data_dir / "prepared")


def test_images_are_in_the_order_of_their_files(tmp_path: Path) -> None:
    files = write_numbered(tmp_path, 3 * WINDOW + 5)
    random.Random(0).shuffle(files)
    images, kept = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [int(file.stem) for file in files]
    assert kept.tolist() == list(range(len(files)))


def test_the_prepared_images_are_read_from_the_folder_when_asked_for(tmp_path: Path) -> None:
    images, _ = prepare(write_numbered(tmp_path, 3), preprocessing([8, 9], 1), tmp_path, "stop")
    assert isinstance(images, StoredImages)
    assert (images.shape, images.dtype) == ((3, 8, 9, 1), np.uint8)
    assert images.file.is_relative_to(tmp_path / "prepared")


def test_others_may_read_the_folder_as_the_umask_allows(tmp_path: Path) -> None:
    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    (tmp_path / "other").mkdir()
    assert images.file.parent.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text('{"shape": [3, "x"], "skipped": []}'),
        lambda folder: (folder / "manifest.json").write_text('{"shape": [3, 8, 8, 3], "skipped": 7}'),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "images.u8").unlink(),
        lambda folder: (folder / "images.u8").write_bytes(b"short"),
    ],
)
def test_what_was_damaged_is_prepared_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    files = write_numbered(tmp_path, 3)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    damage(images.file.parent)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [0, 1, 2]


@pytest.fixture(scope="module")
def three_of_four(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Four files, of which the second is broken, and where the other three are prepared."""
    data_dir = tmp_path_factory.mktemp("prepared")
    files = write_numbered(data_dir, 4)
    files[1].write_text("text")
    images, _ = prepare(files, preprocessing(), data_dir, "skip")
    return files, images.file.parent


@given(data=st.data())
@fuzzed(100)
def test_a_manifest_with_any_damage_is_made_again_or_unchanged_in_content(
    three_of_four: tuple[list[Path], Path], data: st.DataObject
) -> None:
    files, folder = three_of_four
    manifest = folder / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(data.draw(damage(whole)))
    images, kept = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == kept.tolist() == [0, 2, 3]
    assert json.loads(manifest.read_text()) == json.loads(whole)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    manifest.write_bytes(whole)  # A space more, say, is no damage, and would stay for the next example.


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another is skipped": lambda manifest: manifest["skipped"][0].__setitem__(0, 2),
    "none is skipped": lambda manifest: manifest.update(skipped=[]),
    "turned on its side": lambda manifest: manifest.update(shape=[3, 4, 16, 3]),
    "fewer": lambda manifest: manifest.update(shape=[2, 12, 8, 3]),
    "less than nothing": lambda manifest: manifest.update(shape=[-3, -8, 8, 3]),
    "a number that is none": lambda manifest: manifest.update(shape=[float("nan"), 8, 8, 3]),
    "no shape": lambda manifest: manifest.pop("shape"),
    "no checksum": lambda manifest: manifest.pop("sha256"),
    "another reason": lambda manifest: manifest["skipped"][0].__setitem__(1, None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_with_false_content_is_made_again(
    three_of_four: tuple[list[Path], Path], lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    files, folder = three_of_four
    manifest = json.loads((folder / "manifest.json").read_text())
    LIES[lie](manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    images, kept = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == kept.tolist() == [0, 2, 3]
    assert "damaged" in caplog.text


@pytest.mark.parametrize("content", [b"[" * 100_000, b"9" * 100_000, b"null", b"[]", b'{"skipped": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_made_again(three_of_four: tuple[list[Path], Path], content: bytes) -> None:
    files, folder = three_of_four
    (folder / "manifest.json").write_bytes(content)
    images, _ = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == [0, 2, 3]


@pytest.mark.parametrize("name", ["manifest.json", "images.u8"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_in_a_prepared_folder_is_made_again(
    three_of_four: tuple[list[Path], Path], name: str, kind: str
) -> None:
    files, folder = three_of_four
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).mkdir()
    images, _ = prepare(files, preprocessing(), folder.parent.parent, "skip")
    assert numbers(images) == [0, 2, 3]
    assert (folder / name).is_file()


def test_a_file_in_place_of_the_prepared_folder_is_one_line(three_of_four: tuple[list[Path], Path]) -> None:
    files, folder = three_of_four
    shutil.rmtree(folder)
    folder.write_text("text")
    with refused(folder, "data_dir"):
        prepare(files, preprocessing(), folder.parent.parent, "skip")
    folder.unlink()


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = f"unfinished-{platform.node()}"
    names = [
        f"{here}-{ended.pid}-aa",
        f"{here}-{ended.pid}-bb",
        f"{here}-{os.getppid()}-aa",
        "unfinished-x-1-aa",
        "abc",
    ]
    for name in names:
        (tmp_path / "prepared" / name).mkdir(parents=True)
        (tmp_path / "prepared" / name / "images.u8").write_bytes(b"1234")
        for path in (tmp_path / "prepared" / name / "images.u8", tmp_path / "prepared" / name):
            os.utime(path, (1, 1))
    os.utime(tmp_path / "prepared" / names[1] / "images.u8")  # written to just now: by a process of another container

    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    assert {p.name for p in (tmp_path / "prepared").iterdir()} == {*names[1:], images.file.parent.name}


def test_two_processes_may_delete_the_same_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / "prepared" / f"unfinished-{platform.node()}-{ended.pid}-aa"
    leftover.mkdir(parents=True)

    def gone_meanwhile(_: int) -> bool:
        shutil.rmtree(leftover)
        return False

    monkeypatch.setattr(prepared, "_is_alive", gone_meanwhile)
    images, _ = prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path, "stop")
    assert {p.name for p in (tmp_path / "prepared").iterdir()} == {images.file.parent.name}


def test_the_same_files_are_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    files = write_numbered(tmp_path, 5)
    first, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert sorted(decoded) == [file.name for file in files]
    before = left(tmp_path)
    again, kept = prepare(files, preprocessing(), tmp_path, "stop")
    assert len(decoded) == 5
    assert left(tmp_path) == before
    assert kept.tolist() == list(range(5))
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    "change", ["time", "content", "file", "order", "size", "channels", "background", "crop", "format"]
)
def test_whatever_changes_they_are_decoded_again(
    tmp_path: Path, decoded: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_numbered(tmp_path, 5)
    prepare(files, preprocessing(), tmp_path, "stop")
    decoded.clear()
    other = {
        "size": preprocessing([8, 9]),
        "channels": preprocessing(channels=1),
        "background": preprocessing(background="black"),
        "crop": preprocessing(crop=True),
    }
    if change == "time":
        os.utime(files[2], ns=(0, files[2].stat().st_mtime_ns + 1))
    elif change == "content":
        status = files[2].stat()
        write_image(files[2], 200, (20, 20))
        os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "file":
        files[2] = files[2].rename(tmp_path / "other.png")
    elif change == "order":
        files.reverse()
    elif change == "format":
        monkeypatch.setattr(prepared, "FORMAT", prepared.FORMAT + 1)
    images, _ = prepare(files, other.get(change, preprocessing()), tmp_path, "stop")
    assert sorted(decoded) == sorted(file.name for file in files)
    assert int(images[2].flat[0]) == (200 if change == "content" else 2)


def test_it_says_where_and_how_large_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_numbered(tmp_path, 5)

    def unreachable(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Preprocessing, "__call__", unreachable)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        prepare(files, preprocessing([100, 200]), tmp_path, "stop")
    assert "5 images as 100×200×3" in caplog.text
    assert "0.3 MB" in caplog.text
    assert str(tmp_path / "prepared") in caplog.text
    assert left(tmp_path) == set()


def test_a_disk_without_room_is_refused_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(64_000_000))
    with refused("5 images", "5 MB", "64 MB free", tmp_path / "prepared", "data_dir", "dataset.limit"):
        prepare(write_numbered(tmp_path, 5), preprocessing([500, 700]), tmp_path, "stop")
    assert decoded == []
    assert left(tmp_path) == set()


def test_a_disk_that_gets_full_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    files = write_numbered(tmp_path, 5)
    with full_disk(1000), refused(f"cannot write {tmp_path / 'prepared'}", "make room"):
        prepare(files, preprocessing(100), tmp_path, "stop")
    assert left(tmp_path) == set()


def test_a_data_dir_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(f"cannot write {tmp_path / 'file'}", "data_dir"):
        prepare(write_numbered(tmp_path, 1), preprocessing(), tmp_path / "file", "stop")


@pytest.fixture
def one_broken(tmp_path: Path) -> list[Path]:
    """Seven files, the fourth of which is text."""
    files = write_numbered(tmp_path, 7)
    files[3].write_text("text")
    return files


def test_a_broken_image_stops_it_and_nothing_is_left(tmp_path: Path, one_broken: list[Path]) -> None:
    with refused(one_broken[3], "dataset.on_error=skip"):
        prepare(one_broken, preprocessing(), tmp_path, "stop")
    assert left(tmp_path) == set()


def test_broken_images_are_skipped_and_counted_every_time(
    tmp_path: Path, one_broken: list[Path], decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    one_broken[5].write_bytes(b"")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            images, kept = prepare(one_broken, preprocessing(), tmp_path, "skip")
        assert "Skipped 2 of 7" in caplog.text
        assert str(one_broken[3]) in caplog.text
        assert numbers(images) == kept.tolist() == [0, 1, 2, 4, 6]
    assert len(decoded) == 7


def test_what_was_skipped_once_still_stops_the_next(tmp_path: Path, one_broken: list[Path]) -> None:
    prepare(one_broken, preprocessing(), tmp_path, "skip")
    with refused(one_broken[3]):
        prepare(one_broken, preprocessing(), tmp_path, "stop")
    write_image(one_broken[3], 3)
    images, _ = prepare(one_broken, preprocessing(), tmp_path, "stop")
    assert numbers(images) == list(range(7))


def test_when_all_are_broken_skipping_does_not_help(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.touch()
    for _ in range(2):
        with refused("none of 2 images can be used; the first: ", files[0]):
            prepare(files, preprocessing(), tmp_path, "skip")
    with refused("the only image cannot be used: ", files[1]):
        prepare(files[1:], preprocessing(), tmp_path, "skip")


@pytest.mark.parametrize("kind", ["dangling link", "gone"])
def test_a_file_that_is_not_there_is_broken_too(tmp_path: Path, kind: str) -> None:
    files = write_numbered(tmp_path, 3)
    files[1].unlink()
    if kind == "dangling link":
        files[1].symlink_to(tmp_path / "nothing.png")
    with refused(files[1]):
        prepare(files, preprocessing(), tmp_path, "stop")
    images, kept = prepare(files, preprocessing(), tmp_path, "skip")
    assert numbers(images) == kept.tolist() == [0, 2]


def test_two_processes_that_prepare_the_same_end_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_numbered(tmp_path, 3)
    decode, first = Preprocessing.__call__, threading.Lock()

    def meanwhile(self: Preprocessing, path: Path) -> Pixels:
        if first.acquire(blocking=False):
            prepare(files, self, tmp_path, "stop")
        return decode(self, path)

    monkeypatch.setattr(Preprocessing, "__call__", meanwhile)
    images, _ = prepare(files, preprocessing(), tmp_path, "stop")
    assert numbers(images) == [0, 1, 2]
    assert len(list((tmp_path / "prepared").iterdir())) == 1


def test_few_images_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, most, written = 0, 0, 0
    lock, full = threading.Lock(), np.zeros((8, 8, 3), np.uint8)

    def decode(_: Preprocessing, __: Path) -> Pixels:
        nonlocal ahead, most
        with lock:
            ahead += 1
            most = max(most, ahead)
        return full

    monkeypatch.setattr(Preprocessing, "__call__", decode)
    files = [tmp_path / f"{i}.png" for i in range(5 * WINDOW)]
    for _ in prepared.decoded(files, preprocessing()):
        if written < 5:
            time.sleep(0.02)  # a slow disk
        with lock:
            ahead -= 1
        written += 1
    assert written == len(files)
    assert most <= WINDOW + 1
