import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from vae_runner.errors import UserError
from vae_runner.run_directory import RunDirectory, write_whole


def test_a_second_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, OmegaConf.create()).write_info({"status": "finished"})
    with pytest.raises(UserError, match="holds a run already"):
        RunDirectory.create(tmp_path, OmegaConf.create())


def test_the_configuration_is_kept_resolved(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, OmegaConf.create({"a": 3, "b": "${a}"}))
    assert directory.config == {"a": 3, "b": 3}


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_an_unfinished_run_is_refused_with_its_status(tmp_path: Path, status: str) -> None:
    RunDirectory.create(tmp_path, OmegaConf.create()).write_info({"status": status})
    with pytest.raises(UserError, match=f"not finished: its status is '{status}'"):
        RunDirectory.open_finished(tmp_path)


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in [("nowhere", "does not exist"), ("file", "is no directory"), (".", "has no run.json")]:
        with pytest.raises(UserError, match=message):
            RunDirectory.open_finished(tmp_path / path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"'])
def test_a_damaged_run_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json .* damaged"):
        RunDirectory.open_finished(tmp_path)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\xff", b"- 1", b"a: ${"])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml .* damaged"):
        _ = RunDirectory(tmp_path).config


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.save_arrays("x", {"a": np.arange(5), "names": np.array(["ü", "b"])})
    loaded = directory.load_arrays("x")
    np.testing.assert_array_equal(loaded["a"], np.arange(5))
    assert loaded["names"].tolist() == ["ü", "b"]


def test_a_pickle_among_the_arrays_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    np.savez(tmp_path / "evaluation" / "x.npz", a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        RunDirectory(tmp_path).load_arrays("x")


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"old")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, json.dumps({"a": 1}).encode())
    assert path.read_bytes() == b"old"
