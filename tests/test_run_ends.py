"""How `run` notes its end, and what it says, whatever the end was."""

import logging
import os
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_runner import session
from vae_runner.cli.composing import composed
from vae_runner.config.composition import HydraJob
from vae_runner.errors import Interrupted, UnwritableError, UserError
from vae_runner.runtime.console import LogFile
from vae_runner.runtime.surroundings import Surroundings
from vae_runner.schema import Config
from vae_runner.session import Session, _recorded_end
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun


class Ends:
    """In the place of a Record: keeps what it is told, or has no room for it."""

    def __init__(self, *, room: bool = True, has_begun: bool = False) -> None:
        self.told: list[str] = []
        self.room, self.has_begun = room, has_begun

    def end(self, status: str, **entries: Any) -> None:
        if not self.room:
            raise UnwritableError("run.json cannot be written")
        self.told.append(f"{status} {entries.get('error', '')}".strip())


def ended(record: Any, error: BaseException, tmp_path: Path) -> None:
    with _recorded_end(record, RunDirectory(tmp_path), None, "resume=it continues it"):
        raise error


def test_an_error_that_says_nothing_is_noted_too(tmp_path: Path) -> None:
    record = Ends()
    with pytest.raises(UserError, match=r"than there is \(MemoryError\): choose a smaller model"):
        ended(record, MemoryError(), tmp_path)
    assert record.told == ["failed the run needs more memory than there is (MemoryError)"]


@pytest.mark.parametrize(("error", "kind"), [(RuntimeError("ours"), RuntimeError), (KeyboardInterrupt(), Interrupted)])
def test_where_the_end_cannot_be_noted_it_is_still_what_it_was(
    error: BaseException, kind: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        ended(Ends(room=False), error, tmp_path)


@pytest.mark.parametrize("name", ["/dev/full", "nowhere/vae-run.log"])
def test_a_log_that_cannot_be_written_is_no_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = LogFile(name, delay=True)
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    handler.close()
    assert capsys.readouterr().err == ""
    broken = LogFile("vae-run.log")
    broken.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    assert "TypeError" in capsys.readouterr().err


def job(path: Path, *, in_sweep: bool = False) -> HydraJob:
    return HydraJob(path, in_sweep, {}, {}, [])


def test_a_run_that_repeats_none_is_refused_before_it_is_there(tmp_path: Path) -> None:
    repeating = replace(job(tmp_path / "run"), repeated=tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere does not exist"), Session.open(Config.of(composed([])), repeating):
        pytest.fail("it was not")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_interrupted_as_soon_as_it_is_there_is_no_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(Surroundings):
        def __enter__(self) -> Surroundings:
            os.kill(os.getpid(), signal.SIGTERM)
            return self

    monkeypatch.setattr(session, "Surroundings", Interrupting)
    path = tmp_path / "run"
    with pytest.raises(Interrupted, match="continues it"), Session.open(Config.of(composed([])), job(path)):
        pytest.fail("it was not")
    assert StoredRun.open(path).status == "interrupted"


def refused(path: Path, record: Any, *, in_sweep: bool = False) -> list[str]:
    """Return what a run that ends with a refusal leaves in its directory."""
    with RunDirectory.create(path, {"seed": 0}, job(path, in_sweep=in_sweep)) as directory:
        (path / "vae-run.log").write_text("refused")
        with pytest.raises(UserError, match="no such images"), _recorded_end(record, directory, None, ""):
            raise UserError("no such images")
    return sorted(file.name for file in path.iterdir())


@pytest.mark.parametrize("answered", ["while it is waited for", "while the end is written", "after an interruption"])
def test_a_finished_run_stays_one_while_git_is_waited_for_and_has_its_answer(
    answered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str] = []
    interrupted = answered == "after an interruption"

    class Slow(Surroundings):
        def wait(self) -> None:
            assert StoredRun(tmp_path / "run").info["status"] == "finished"
            if interrupted:
                os.kill(os.getpid(), signal.SIGINT)
            answers.append("known")

        def entries(self) -> dict[str, object]:
            return {"git": {"commit": answers[0]} if answers else None}

    class Finishing(RunDirectory):
        def write_info(self, info: Mapping[str, object]) -> None:
            super().write_info(info)
            if info["status"] == "finished":
                answers.append("known")

    if answered == "while the end is written":
        monkeypatch.setattr(session, "RunDirectory", Finishing)
        monkeypatch.setattr(Slow, "wait", lambda self: None)
    monkeypatch.setattr(session, "Surroundings", Slow)
    monkeypatch.chdir(tmp_path)
    ends = pytest.raises(Interrupted, match="interrupted when the run had finished") if interrupted else nullcontext()
    with ends, Session.open(Config.of(composed([])), job(tmp_path / "run")):
        pass
    info = StoredRun(tmp_path / "run").info
    assert info["status"] == "finished"
    assert info["git"] == (None if interrupted else {"commit": "known"})


def test_a_refusal_before_training_leaves_nothing_and_one_later_or_of_a_sweeps_run_what_there_was(
    tmp_path: Path,
) -> None:
    made = [".hydra", ".lock", "config.yaml", "run.json", "vae-run.log"]
    assert refused(tmp_path / "a", Ends()) == []
    assert refused(tmp_path / "b", Ends(has_begun=True)) == made
    assert refused(tmp_path / "c", Ends(), in_sweep=True) == made


@pytest.mark.parametrize("file", [".mine", "vae-run.log"])
def test_a_refusal_leaves_a_folder_in_which_there_was_something_before(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("mine")
    assert {file, "run.json"} <= set(refused(tmp_path, Ends()))


def test_a_refusal_leaves_a_directory_in_which_something_has_been_written_since(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDirectory.create(path, {"seed": 0}, job(path)) as directory:
        (path / "metrics.csv").write_text("epoch")
        directory.discard()
        assert (path / "run.json").exists()
        (path / "metrics.csv").unlink()
        directory.discard()
        assert not list(path.iterdir())


def test_a_refusal_to_go_on_leaves_the_run(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", {"seed": 0}, job(tmp_path / "run")):
        pass
    with RunDirectory.open_to_resume(tmp_path / "run") as directory:
        directory.discard()
    assert (tmp_path / "run" / "run.json").exists()
