"""Commands in forks end as they would outside of them."""

import os
import signal
import subprocess
import sys
from multiprocessing.util import _run_finalizers
from pathlib import Path

import pytest

from tests.conftest import COMMANDS, REPOSITORY
from tests.forks import ForkedCommand, can_be_forked
from tests.small_experiments import SMALL

RUN = str(COMMANDS / "vae-run")


def test_the_end_of_the_tests_does_not_wait_for_a_command_that_one_has_left_behind(tmp_path: Path) -> None:
    left = ForkedCommand([RUN, *SMALL, "epochs=1_000_000"], tmp_path, dict(os.environ))
    assert left.poll() is None
    _run_finalizers(10)  # as at the end of this process, before it waits for its children
    assert left.wait(timeout=10) == -signal.SIGKILL


def test_a_command_that_reads_its_environment_while_it_imports_starts_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert can_be_forked([RUN], os.environ)
    assert not can_be_forked([RUN, "-m"], os.environ)
    assert not can_be_forked([RUN], {**os.environ, "XLA_FLAGS": "--xla_dump_to=here"})
    monkeypatch.setenv("PYTHONPATH", "mine")  # by whomever
    assert not can_be_forked([RUN], os.environ)
    monkeypatch.delenv("HOME")
    assert not can_be_forked([RUN], os.environ)


INTERRUPTED = """
import atexit, os
from pathlib import Path
from tests.forks import _command
from vae_runner.cli import commands

def interrupted():
    atexit.register(Path("ended").touch)
    raise KeyboardInterrupt

commands.run = interrupted
_command(["vae-run"], Path(), dict(os.environ), Path("out"), Path("err"))
"""


def test_a_command_ends_what_it_is_to_end_last_and_by_the_signal_that_nothing_answers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=tmp_path, env=environment, check=False)
    assert result.returncode == -signal.SIGINT
    assert (tmp_path / "ended").exists()
