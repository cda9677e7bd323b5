"""The runs below a folder, from their run.json alone."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from vae_runner.config.keys import PRESETS
from vae_runner.errors import DAMAGED, FormatError, UnreadableError, UserError
from vae_runner.files.folders import RUN_FILE
from vae_runner.files.untrusted import DamagedError, JsonObject
from vae_runner.runtime import garbage
from vae_runner.storage.names import CONFIG_FILE, LOCK_FILE, NOTES_FILE
from vae_runner.storage.notes import Notes, read_notes
from vae_runner.storage.run_info import CHOICES, GIVEN, MODELS, OUTDATED, SETTINGS, read_info, run_metrics
from vae_runner.storage.stored_run import StoredRun

METHOD, LOSS, DATASET = "method", "loss", "dataset"  # groups


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run without opening more than its run.json, and its tags and note."""

    path: Path
    status: str  # that of the run; "damaged", "unreadable" or "unsupported" (of another format), and why as `error`
    error: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)  # by group; of older runs, this and no more
    settings: Mapping[str, object] = field(default_factory=dict)  # what decides what it computes, by dotted keys
    given: Sequence[str] = ()  # the keys and groups that its command gave
    epoch: int | None = None  # the last; of a finished run that of its models
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # of that epoch, but for the seconds
    started: str = ""  # as ISO 8601 has it
    seconds: float | None = None  # that processes have worked on it
    notes: Notes = Notes()

    @property
    def method(self) -> str:
        """Return the method that was chosen, or the loss where none was."""
        return self.choices.get(METHOD) or self.choices.get(LOSS, "")

    @property
    def dataset(self) -> str:
        """Return which dataset was chosen."""
        return self.choices.get(DATASET, "")

    @property
    def began(self) -> float:
        """Return when the run began, in seconds since 1970; 0 where that is not known."""
        try:
            return datetime.fromisoformat(self.started).timestamp()
        except ValueError:
            return 0.0

    @property
    def given_settings(self) -> dict[str, object]:
        """Return what the command gave beside method and dataset, as far as it decides what is computed."""
        shown = (METHOD if METHOD in self.choices else LOSS, DATASET)
        named = {name: self.settings.get(name, self.choices.get(name)) for name in self.given if name not in shown}
        return {n: value for n, value in named.items() if value is not None and (n in self.settings or n in PRESETS)}

    def value(self, name: str) -> object:
        """Return a metric, a setting, a choice, or what else is known by that name; None where the run has none."""
        if name in OWN:
            return OWN[name](self)
        for values in (self.metrics, self.settings, self.choices):
            if name in values:
                return values[name]
        return None


# What every run has, by the names that conditions have for it.
OWN: dict[str, Callable[[RunRecord], object]] = {
    "run": lambda record: str(record.path),
    "status": lambda record: record.status,
    "method": lambda record: record.method,
    "epoch": lambda record: record.epoch,
    "step": lambda record: record.step,
    "seconds": lambda record: record.seconds,
    "tag": lambda record: list(record.notes.tags),
}


def runs(folder: str | Path = "outputs") -> list[RunRecord]:
    """Return the runs in and below a folder, of sweeps too, the oldest first.

    What is damaged, unreadable, or of another format is a record that says so. Links are followed to runs only.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {what}: give a folder with runs below it")
    with garbage.uncollected():
        found = [(record.began, record) for record in _below(folder)]
    return [record for _, record in sorted(found, key=lambda pair: (pair[0], pair[1].path))]


def with_evaluation(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records with the values that `vae-evaluate` has measured among their metrics, as `evaluation/NAME`."""
    return [_evaluated(record) for record in records]


def _evaluated(record: RunRecord) -> RunRecord:
    try:
        return replace(record, metrics={**record.metrics, **StoredRun(record.path).evaluated})
    except UserError as error:
        return replace(record, error=record.error or str(error))


def varied(records: Sequence[RunRecord]) -> list[dict[str, object]]:
    """Return of each run what its command gave, but for what all of them were given alike."""
    given = [record.given_settings for record in records]
    named = [of for record, of in zip(records, given, strict=True) if record.given]  # older runs do not say what
    common = set(named[0]) if len(named) > 1 else set()
    for other in named[1:]:
        common &= {name for name in common & other.keys() if other[name] == named[0][name]}
    return [{name: value for name, value in of.items() if name not in common} for of in given]


def _below(top: Path) -> Iterator[RunRecord]:
    waiting = [os.fspath(top)]
    while waiting:
        folder = waiting.pop()
        record = _read(Path(folder))
        if record is not None:
            yield record
            continue
        try:
            with os.scandir(folder) as entries:
                inside = {entry.name: entry for entry in entries}
        except PermissionError as error:
            yield RunRecord(Path(folder), "unreadable", f"{folder} cannot be read ({error.strerror})")
            continue
        except OSError:  # It has gone meanwhile.
            continue
        if CONFIG_FILE in inside and LOCK_FILE in inside:
            missing = f"{folder}/{RUN_FILE} is missing: bring it back from a copy, or give the run's command again"
            yield RunRecord(Path(folder), "damaged", missing)
            continue
        for name, entry in inside.items():
            if name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_symlink() and (linked := _read(Path(entry.path))) is not None:
                yield linked


def _read(path: Path) -> RunRecord | None:
    """Return the record of the run in a folder, or None where there is no run.json."""
    try:
        info = read_info(path / RUN_FILE)
        status = OUTDATED if OUTDATED in info else str(info.get("status"))
        if status == "running":
            status = StoredRun(path).status  # "dead" where its process is gone
    except UnreadableError as error:
        return RunRecord(path, "unreadable", str(error))
    except FormatError as error:
        return RunRecord(path, "unsupported", str(error))
    except DamagedError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        return RunRecord(path, "damaged", f"{path / RUN_FILE} cannot be used ({error}): {DAMAGED}")
    except UserError as error:
        return RunRecord(path, "damaged", str(error))
    return _record(path, status, info)


def _record(path: Path, status: str, info: JsonObject) -> RunRecord:
    error, notes = info.get("error") or info.get(OUTDATED, ""), Notes()
    if os.path.lexists(f"{path}/{NOTES_FILE}"):
        try:
            notes = read_notes(path / NOTES_FILE)
        except UserError as problem:
            error = error or str(problem)
    measured = info.get(MODELS, info)
    return RunRecord(
        path, status, error, info.get(CHOICES, {}), info.get(SETTINGS, {}), info.get(GIVEN, []), measured.get("epoch"),
        measured.get("step"), run_metrics(info), info.get("started", ""), info.get("seconds"), notes,
    )  # fmt: skip
