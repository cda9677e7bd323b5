import errno
import fcntl
import os
from pathlib import Path

import pytest

from vae_runner.files.locks import WARNED, Lock, is_held
from vae_runner.sweeps import share
from vae_runner.sweeps.directory import SweepDirectory


def test_one_process_has_a_lock_and_the_next_when_it_is_released(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    with first:
        assert first.is_locked
        assert not second.acquire(timeout=0)
    assert second.acquire(timeout=0)
    second.release()
    second.release()
    assert not second.is_locked


def test_processes_that_look_at_a_lock_at_the_same_time_do_not_take_each_other_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_held(file)
    assert not file.exists()  # To look leaves nothing.
    with Lock(file):
        assert is_held(file)
    with file.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as another process does that looks at it
        assert not is_held(file)


def test_a_link_is_no_lock_and_what_it_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(OSError, match="it is a link"):
        Lock(tmp_path / "lock").acquire(timeout=0)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_without_locks_nothing_is_locked_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.delenv(WARNED, raising=False)
    monkeypatch.setenv(WARNED + "_", "")  # so that the other is taken back, too
    for _ in range(2):
        lock = Lock(tmp_path / "a")
        assert lock.acquire(timeout=0)
        assert not lock.is_locked
    with Lock(tmp_path / "b"):
        pass
    assert caplog.text.count("without locks") == 1
    assert share._slot(SweepDirectory(tmp_path), 100) == os.getpid() % 100
    os.environ.pop(WARNED)
