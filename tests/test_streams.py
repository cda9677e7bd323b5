import os
import sys
from pathlib import Path

import pytest

from vae_runner.streams import Forgiving, forgiving


@pytest.fixture
def unread(tmp_path: Path) -> Forgiving:
    """A stream into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return Forgiving(os.fdopen(writing, "w"))


def test_what_nobody_reads_is_lost_and_no_error(unread: Forgiving) -> None:
    for _ in range(2):
        assert unread.write("lost\n") == 5
        unread.flush()
    assert unread.problem is None
    unread.close()  # with nothing left to write


def test_that_there_was_no_room_is_kept(unread: Forgiving) -> None:
    with Path("/dev/full").open("w") as file:
        full = Forgiving(file)
        full.write("lost\n")
        full.flush()
        assert full.problem is not None
    assert full.problem.strerror == "No space left on device"


def test_the_streams_are_put_back_and_a_closed_one_takes_no_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stderr
    monkeypatch.setattr(sys, "stdout", None)
    with forgiving():
        print("to nobody")
        assert isinstance(sys.stderr, Forgiving)
    assert sys.stderr is before
