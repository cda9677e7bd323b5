"""Commands in forks end as they would outside of them."""

import atexit
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMANDS
from tests.forks import FORKS, ForkedCommand, _command, can_be_forked
from tests.small_experiments import SMALL
from vae_runner.cli import commands

RUN = str(COMMANDS / "vae-run")


def test_the_end_of_the_tests_does_not_wait_for_a_command_that_one_has_left_behind(tmp_path: Path) -> None:
    left = ForkedCommand([RUN, *SMALL, "epochs=1_000_000"], tmp_path, dict(os.environ))
    assert left.poll() is None
    left.at_exit()  # as this process does at its end, before it waits for its children
    assert left.wait(timeout=10) == -signal.SIGKILL


def test_a_command_that_reads_its_environment_while_it_imports_starts_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert can_be_forked([RUN], os.environ)
    assert not can_be_forked([RUN, "-m"], os.environ)
    assert not can_be_forked([RUN, "--multirun"], os.environ)
    assert not can_be_forked([RUN], {**os.environ, "XLA_FLAGS": "--xla_dump_to=here"})
    monkeypatch.setenv("PYTHONPATH", "mine")  # by whomever
    assert not can_be_forked([RUN], os.environ)
    monkeypatch.delenv("HOME")
    assert not can_be_forked([RUN], os.environ)


def interrupted() -> None:
    atexit.register(Path("ended").touch)
    print("said", end="")
    raise KeyboardInterrupt


def command_that_is_interrupted(*arguments: Any) -> None:
    commands.run = interrupted
    _command(*arguments)


def test_a_command_ends_what_it_is_to_end_last_and_by_the_signal_that_nothing_answers(tmp_path: Path) -> None:
    files = tmp_path / "out", tmp_path / "err"
    process = FORKS.Process(target=command_that_is_interrupted, args=([RUN], tmp_path, dict(os.environ), *files))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGINT
    assert (tmp_path / "ended").exists()
    assert files[0].read_text() == "said"
    assert files[1].read_text().startswith("Traceback")
