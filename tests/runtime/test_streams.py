import io
import os
import sys
from pathlib import Path

import pytest

from vae_runner.runtime.streams import BestEffortStream, best_effort_output


@pytest.fixture
def unread(tmp_path: Path) -> BestEffortStream:
    """A stream into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return BestEffortStream(os.fdopen(writing, "w"))


def test_what_nobody_reads_is_lost_and_no_error(unread: BestEffortStream) -> None:
    for _ in range(2):
        assert unread.write("lost\n") == 5
        unread.flush()
    assert unread.problem is None
    unread.close()
    assert not unread.closed, "it is not ours to close"
    unread._stream.close()  # with nothing left to write


def test_that_there_was_no_room_is_kept() -> None:
    with Path("/dev/full").open("w") as file:
        full = BestEffortStream(file)
        full.write("lost\n")
        full.flush()
        assert full.problem is not None
    assert full.problem.strerror == "No space left on device"


def test_letters_that_a_stream_has_not_are_written_out() -> None:
    content = io.BytesIO()
    stream = BestEffortStream(io.TextIOWrapper(content, encoding="ascii"))
    stream.write("28×28")
    stream.flush()
    assert content.getvalue() == b"28\\xd728"


def test_the_streams_are_put_back_unless_others_have_taken_their_place() -> None:
    out, err = sys.stdout, sys.stderr
    with best_effort_output():
        assert isinstance(sys.stdout, BestEffortStream)
        assert isinstance(sys.stderr, BestEffortStream)
        sys.stderr = other = io.StringIO()
    try:
        assert sys.stdout is out
        assert sys.stderr is other
    finally:
        sys.stderr = err
