"""The process that outlives whatever happens to the runs of a sweep, with stand-ins for the process they run in."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_runner.errors import Interrupted, UnwritableError, UserError
from vae_runner.files.locks import Lock
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps import supervisor
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.dry_run import planned
from vae_runner.sweeps.report import Report


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


def test_a_quarantined_run_of_a_command_that_was_killed_does_not_keep_others_from_being_run(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    (sweep.path / ".quarantine").write_text("old")
    add_run(sweep, "a")
    may_run: list[bool] = []

    def run() -> int:
        with sweep.quarantine("a") as may:
            may_run.append(may)
        return 0

    processes(run)
    supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert may_run == [True]


def test_two_commands_do_not_work_in_one_sweep(sweep: SweepDirectory, processes: Callable[..., list[int]]) -> None:
    add_run(sweep, "a")
    before = sweep.info.command

    def run() -> int:
        with pytest.raises(UserError, match="sweep is in use: another vae-run -m works in it; wait for its end"):
            supervisor.supervise(["seed=7", "sweep.dir=sweep"])
        return 0

    processes(run, run)
    for _ in range(2):  # the lock is given back
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert sweep.info.command == before


KILLED = -9


def test_runs_that_were_dead_before_are_neither_blamed_nor_a_reason_to_continue_for_ever(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    old = add_run(sweep, "old", "running")
    before = old.info
    processes(*[lambda: KILLED] * supervisor.MAX_LOSSES)
    with pytest.raises(UserError, match="died of signal SIGKILL, again and again"):
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert old.info == before


def test_a_run_that_died_with_the_process_is_blamed_and_one_that_was_dead_before_is_not(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    old = add_run(sweep, "old", "running")

    def dies() -> int:
        add_run(sweep, "new", "running")
        return KILLED

    def goes_on() -> int:
        add_run(sweep, "old")
        return 0

    processes(dies, goes_on)
    with pytest.raises(UserError, match="the process died of signal SIGKILL"):
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert RunDirectory(sweep.path / "new").status == "failed"
    assert "quarantined" not in old.info


@pytest.mark.parametrize(("status", "how"), [(1, "with status 1"), (-signal.SIGILL, "of signal SIGILL")])
def test_a_sweep_whose_process_dies_with_a_word_ends_with_its_table_and_that_word(
    status: int,
    how: str,
    sweep: SweepDirectory,
    processes: Callable[..., list[int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(sweep, "done")

    def die() -> int:
        sweep.crash_file.write_text(
            "I0000 00:00:1 port.cc:153] oneDNN is on.\n"
            "F0000 00:00:1 flags.cc:2] Unknown flag: --odd\n"
            "    @  0x7f  abort\n"
        )
        return status

    begun = processes(die)
    with pytest.raises(UserError) as refused:
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert f"died {how} while TensorFlow was imported: F0000 00:00:1 flags.cc:2] Unknown flag: --odd (" in str(
        refused.value
    )
    assert "done" in capsys.readouterr().out
    assert len(begun) == 1


def test_a_damaged_run_does_not_end_the_others(sweep: SweepDirectory, processes: Callable[..., list[int]]) -> None:
    def dies() -> int:
        add_run(sweep, "new", "running")
        (add_run(sweep, "damaged").path / "run.json").write_text("{")
        return KILLED

    begun = processes(dies, lambda: 0)
    with pytest.raises(UserError, match="2 of 2 runs did not finish"):
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert len(begun) == 2
    assert RunDirectory(sweep.path / "new").status == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_processes_ends_the_sweep_in_order(
    sweep: SweepDirectory, processes: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def dies() -> int:
        add_run(sweep, "new", "running")
        return KILLED

    processes(dies)
    before = signal.getsignal(number)
    monkeypatch.setattr(supervisor, "record_deaths", lambda *_: signal.raise_signal(number))
    with pytest.raises(Interrupted, match=r"interrupted: the same command with sweep.dir=sweep continues it") as end:
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert end.value.status == 128 + number
    assert signal.getsignal(number) is before


def test_a_report_that_cannot_be_written_does_not_end_the_sweep(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(sweep, "a")
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.01)
    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **more: started(["sleep", "0.1"], **more))
    asked = []

    def full(self: Report) -> None:
        asked.append(1)
        raise UnwritableError("no room")

    monkeypatch.setattr(Report, "keep_current", full)
    supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert len(asked) > 1


def test_what_is_left_of_a_process_group_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.01)
    left = subprocess.Popen(["sleep", "100"], process_group=0)
    begun = time.monotonic()
    supervisor._end_group(left.pid, supervisor.SECONDS_TO_END)
    assert time.monotonic() - begun < supervisor.SECONDS_TO_END


def test_what_nobody_reaps_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_SECONDS", "SECONDS_TO_BE_KILLED"):
        monkeypatch.setattr(supervisor, name, 0.05)
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(number))
    monkeypatch.setattr(os, "waitpid", lambda *_: (0, 0))
    supervisor._end_group(1, 0.05)
    assert sent[0] == signal.SIGTERM
    assert sent[-1] == signal.SIGKILL


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["sweep.dir=mine/new"], {"mine", "sweep"}),
        (["sweep.dir=mine/2020-01-01"], {"mine", "sweep"}),
        (["sweep.dir=mine"], {"mine", "sweep"}),
        (["sweep.dir=new"], {"mine", "sweep"}),
        ([], {"mine", "sweep"}),
    ],
)
def test_a_refused_command_leaves_the_users_own_folders_and_none_of_its_own(
    sweep: SweepDirectory,
    processes: Callable[..., list[int]],
    given: list[str],
    left: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("mine").mkdir()
    seen: list[bool] = []

    def refused() -> int:
        (study,) = (path.parent / "study.journal" for path in Path().rglob("sweep.json") if path.parent != sweep.path)
        study.touch()
        release = Lock.release
        monkeypatch.setattr(Lock, "release", lambda lock: (seen.append(study.exists()), release(lock)))
        return supervisor.REFUSED

    processes(refused)
    with pytest.raises(SystemExit):
        supervisor.supervise(["latnt=0,1", *given])
    assert seen == [False]  # Once the lock is released, a study might be another command's.
    assert {path.name for path in Path().iterdir()} == left
    assert not list(Path("mine").iterdir())


def test_a_refused_command_changes_nothing_of_a_sweep(
    sweep: SweepDirectory, processes: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(sweep, "a", "failed")
    (sweep.path / "multirun.yaml").write_text("the last command's")
    sweep.request_stop(signal.SIGTERM)
    before = sweep.snapshot()
    assert len(before) == 3

    def refused() -> int:
        (sweep.path / "multirun.yaml").write_text("this command's")
        return supervisor.REFUSED

    processes(refused)
    with pytest.raises(SystemExit):
        supervisor.supervise(["latnt=0,1", "sweep.dir=sweep"])
    assert sweep.snapshot() == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("how", ["sweep=resume", "sweep.resume=true"])
def test_the_newest_sweep_of_a_command_is_continued_past_a_damaged_one(
    sweep: SweepDirectory, how: str, processes: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    good, damaged = (SweepDirectory(Path("outputs/2020-01-01") / name) for name in ("10-00-00", "11-00-00"))
    good.begin(["seed=0,1"], ["seed"])
    add_run(good, "a")
    damaged.path.mkdir()
    (damaged.path / "sweep.json").write_text("{")
    processes(lambda: 0)
    supervisor.supervise(["seed=0,1", how])
    said = capsys.readouterr()
    assert f"Continuing {good.path}" in said.out
    assert planned(["seed=0,1", how])[0].path == good.path  # type: ignore[union-attr]
    assert capsys.readouterr().out == ""  # of a dry run, which continues nothing
    assert f"{damaged.path}/sweep.json cannot be used" in said.err


@pytest.mark.parametrize("override", ["sweep=resume", "sweep.dir=sweep", "sweep.resume=true", "+sweep.dir=sweep"])
def test_what_is_for_a_sweep_is_refused_for_a_run(
    sweep: SweepDirectory, override: str, refusal: Callable[..., str]
) -> None:
    assert f"{override} is for a sweep: add -m" in refusal("vae-run", "latent=2", override, cwd=Path())


def test_a_queued_job_finds_the_stop_request_when_it_begins(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    def interrupted() -> int:
        directory = SweepDirectory(Path("queued"))
        (directory.path / ".submitit").mkdir()
        (directory.path / ".submitit" / "1_submitted.pkl").touch()
        directory.request_stop(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return 128 + signal.SIGTERM

    processes(interrupted)
    with pytest.raises(Interrupted):
        supervisor.supervise(["seed=0,1", "sweep.dir=queued"])
    assert SweepDirectory(Path("queued")).stop_requested == signal.SIGTERM


def test_a_run_that_is_touched_again_and_again_does_not_count_as_progress(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    run = add_run(sweep, "a", "failed")

    def lost() -> int:
        run.touch()
        return -signal.SIGKILL

    begun = processes(*[lost] * supervisor.MAX_LOSSES)
    with pytest.raises(UserError):
        supervisor.supervise(["seed=0,1", "sweep.dir=sweep"])
    assert len(begun) == supervisor.MAX_LOSSES


def test_a_sweep_that_begins_in_the_second_of_another_has_a_folder_of_its_own(
    sweep: SweepDirectory, processes: Callable[..., list[int]]
) -> None:
    for second in range(10):
        then = time.localtime(time.time() + second)
        (Path("outputs") / time.strftime("%Y-%m-%d/%H-%M-%S", then)).mkdir(parents=True)
    before = set(Path("outputs").glob("*/*"))
    used: list[Path] = []

    def refused() -> int:
        used.extend(file.parent for file in Path("outputs").glob("*/*/sweep.json"))
        return supervisor.REFUSED

    processes(refused)
    with pytest.raises(SystemExit):
        supervisor.supervise(["latnt=0,1"])
    assert [path.name[8:] for path in used] == ["-2"]
    assert set(Path("outputs").glob("*/*")) == before
