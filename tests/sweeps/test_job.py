"""One run of a sweep, and what it shares with others."""

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from vae_runner.errors import UserError
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps import job
from vae_runner.sweeps.directory import SweepDirectory


@pytest.mark.parametrize("problem", ["held", "unwritable"])
def test_a_failure_that_cannot_be_recorded_is_logged_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    directory, other = (RunDirectory(tmp_path / "run") for _ in range(2))
    if problem == "held":
        directory.path.mkdir()
        other.acquire()
    else:
        directory.path.write_text("a file")
    with caplog.at_level(logging.ERROR):
        job._record_failure(directory, {}, None, "a fault")
    assert "The failure of run cannot be recorded" in caplog.text
    other.release()


def test_machines_that_share_a_sweeps_folder_have_slots_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slot(host: str) -> Any:
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        return SweepDirectory(tmp_path).slot_file(0)

    assert slot("a") == slot("a")
    assert slot("a") != slot("b")


@pytest.mark.parametrize("error", [UserError("there is no such folder"), FileNotFoundError(2, "No such file", "x.npy")])
def test_a_finished_run_whose_images_are_gone_stays_finished(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(dataset: str) -> None:
        raise error

    monkeypatch.setattr(job, "_fingerprint", gone)
    config = {"dataset": {"path": "x.npy"}}
    with RunDirectory.create(tmp_path / "run", config) as directory:
        directory.write_info({"status": "finished", "data": {"train": {"images": 1, "content": "a"}}})
    assert job._is_current(directory, config)
    assert directory.status == "finished"
