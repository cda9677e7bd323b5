"""How `run` notes its end, and what it says, whatever the end was."""

import logging
from pathlib import Path
from typing import Any

import pytest

from vae_runner.errors import Interrupted, UnwritableError, UserError
from vae_runner.runtime.console import LogFile
from vae_runner.session import _recorded_end
from vae_runner.storage.run_directory import RunDirectory


class Ends:
    """In the place of a Record: keeps what it is told, or has no room for it."""

    def __init__(self, *, room: bool = True) -> None:
        self.told: list[str] = []
        self.room = room

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
