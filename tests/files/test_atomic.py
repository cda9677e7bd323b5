import errno
import json
import os
from pathlib import Path

import pytest

from vae_runner.errors import UnwritableError, UserError
from vae_runner.files.atomic import replacing, write_atomic


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(UserError, match=r"run.json cannot be written \(No space left on device\)"):
        write_atomic(path, json.dumps({"a": 1}).encode())
    assert path.read_bytes() == b"old"


def test_what_fails_while_it_is_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "model.keras") as part:
            assert part.suffix == ".keras"
            part.write_bytes(b"half")
            raise RuntimeError

    write_atomic(tmp_path / "model.keras", b"old")
    with pytest.raises(RuntimeError):
        fail()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_is_written_under_a_link_leaves_what_the_link_leads_to(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / f".part-{os.getpid()}-metrics.csv").symlink_to(mine)
    write_atomic(tmp_path / "metrics.csv", b"new")
    assert mine.read_text() == "mine"
    assert (tmp_path / "metrics.csv").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_let_pass_and_a_disk_that_fails_is_not(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def fsync(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):  # noqa: PTH112 (of a descriptor)
            raise OSError(number, os.strerror(number))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(UnwritableError):
            write_atomic(tmp_path / "a", b"content")
    else:
        write_atomic(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
