"""The process that outlives whatever happens to the runs of a sweep, with stand-ins for the process they run in."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_runner.errors import UserError
from vae_runner.run_directory import RunDirectory
from vae_runner.sweeps import supervisor
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.untrusted import sealed


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    """A sweep's directory, in the working directory, that a command has worked in."""
    monkeypatch.chdir(tmp_path)
    directory = SweepDirectory(Path("sweep"))
    directory.begin(["seed=0,1"], ["seed"])
    return directory


def add_run(sweep: SweepDirectory, name: str, status: str = "finished") -> RunDirectory:
    """A run of the sweep; one that is "running" is dead, because nothing holds it."""
    run = RunDirectory(sweep.path / name)
    run.path.mkdir(exist_ok=True)
    run.write_info({"status": status, "metrics": {}})
    (run.path / "config.yaml").write_text("seed: 0\n")
    return run


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Puts functions that return an exit status in the place of the processes that runs are launched from."""

    def replace(*ends: Callable[[], int]) -> list[int]:
        begun: list[int] = []

        def run_process(self: Any) -> int:
            begun.append(len(begun))
            assert len(begun) <= len(ends), "a process too many was started"
            return ends[len(begun) - 1]()

        monkeypatch.setattr(supervisor._Launching, "_run_process", run_process)
        return begun

    return replace


def test_a_suspect_of_a_command_that_was_killed_does_not_keep_others_from_being_run(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    (sweep.path / ".suspect").write_text("old")
    add_run(sweep, "a")
    may_run: list[bool] = []

    def run() -> int:
        with sweep.only_suspect("a") as may:
            may_run.append(may)
        return 0

    processes(run)
    supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert may_run == [True]


def test_two_commands_do_not_work_in_one_sweep(sweep: SweepDirectory, processes: Callable[..., list[int]]) -> None:
    add_run(sweep, "a")
    before = sweep.command

    def run() -> int:
        with pytest.raises(UserError, match="sweep is in use: another vae-run -m works in it; wait for its end"):
            supervisor.supervise(["seed=7", "sweep.dir=sweep"])
        return 0

    processes(run, run)
    for _ in range(2):  # the lock is given back
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert sweep.command == before
