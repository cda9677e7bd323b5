"""A sweep's directory: no other code knows its file names. PROTOCOL.md says who writes which of them, and when."""

import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from textwrap import shorten
from uuid import uuid4

from vae_runner.config.fingerprint import ID_CHARACTERS
from vae_runner.errors import FormatError, UserError
from vae_runner.files.atomic import write_atomic, writing
from vae_runner.files.folders import LOG, RUN_FILE, SWEEP_FILE, check_own, remove_empty
from vae_runner.files.locks import Lock
from vae_runner.files.sealed import read_sealed, write_sealed
from vae_runner.files.untrusted import DamagedError, are_texts, is_file, is_number, readable
from vae_runner.storage.run_directory import RunDirectory

MAX_CRASH_OUTPUT = 400  # characters
NOT_FATAL = re.compile(r"[IWE]\d{4} |WARNING: All log messages before|\*\*\* |\s+@ ")  # lines of TensorFlow's log
RUNS = "*" + ID_CHARACTERS * "[0-9a-f]"  # their folders
# All that lies in a sweep's directory, and what shows that it is one where its sweep.json was lost.
NAMES = (
    SWEEP_FILE, "sweep.csv", "sweep_groups.csv", "sweep.html", "multirun.yaml", "study.journal*", LOG, ".lock", RUNS,
)  # fmt: skip
MARKS = (".lock", f"{RUNS}/{RUN_FILE}")


@dataclass(frozen=True)
class SweepInfo:
    """What sweep.json says of the last command in a sweep's directory."""

    command: Sequence[str] = ()  # its overrides
    keys: Sequence[str] = ()  # what it and the commands before it vary
    begun: float = 0  # in seconds since 1970
    expected: Sequence[str] = ()  # the identities of the runs that it is to bring to their ends
    identity: str = ""  # of the sweep, wherever its directory is
    metric: str = ""  # that a search optimises; of a sweep without a search nothing
    highest: bool = False  # whether its highest value is the best
    logarithmic: Sequence[str] = ()  # the keys that a search draws on a logarithmic scale


class SweepDirectory:
    """A sweep's directory, by the meaning of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table_file = path / "sweep.csv"
        self.groups_file = path / "sweep_groups.csv"
        self.page_file = path / "sweep.html"
        self.study_file = path / "study.journal"  # Optuna's (conf/hydra/sweeper/optuna.yaml)
        self.crash_file = path / ".crash"  # what native code wrote before it ended a process
        self._info_file = path / SWEEP_FILE
        self._launched_file = path / "multirun.yaml"  # Hydra's: the configuration that it launched the runs with
        self._lock_file = path / ".lock"
        self._stop_file = path / ".stop"  # the number of a signal, then the refusal if it was no signal
        self._quarantine_file = path / ".quarantine"  # the name of the quarantined run that a process repeats

    @property
    def exists(self) -> bool:
        """Return whether this is a sweep's directory; raise UnreadableError where permissions hide that."""
        return is_file(self._info_file)

    @property
    def version(self) -> int:
        """Return what changes with each command in this directory, and 0 where there was none; for equality only."""
        return self._info_file.stat().st_mtime_ns if self.exists else 0

    def check_own(self) -> None:
        """Refuse a folder with something in it that no sweep has written, and that a sweep might write over."""
        if not self.exists:
            check_own(self.path, "a sweep", NAMES, MARKS)

    def check_format(self) -> None:
        """Raise FormatError for a sweep with a run of another format: it can neither be continued nor compared."""
        for run in self.runs:
            try:
                _ = run.info
            except FormatError:
                raise
            except UserError:  # The report names damaged runs, and leaves the others alone.
                continue

    def begin(self, command: Sequence[str], keys: Sequence[str]) -> None:
        """Record that a command with these overrides, which varies `keys`, works in this sweep from now on.

        Until it says otherwise, it is a search if the command before was one: it may end before it can say so.
        """
        with writing(self._stop_file):
            self._stop_file.unlink(missing_ok=True)
        before = self.info
        keys = list(dict.fromkeys([*before.keys, *keys]))
        identity = before.identity or uuid4().hex
        self._write_info(
            replace(before, command=command, keys=keys, begun=int(time.time()), expected=[], identity=identity)
        )

    def search(self, metric: str, *, highest: bool, logarithmic: Sequence[str]) -> None:
        """Record that the command is a search, and for what."""
        self._write_info(replace(self.info, metric=metric, highest=highest, logarithmic=list(logarithmic)))

    def expect(self, identities: Iterable[str]) -> None:
        """Record which runs the command is to bring to their ends, by their identities. It is no search."""
        self._write_info(replace(self.info, expected=list(identities), metric="", highest=False, logarithmic=[]))

    @property
    def info(self) -> SweepInfo:
        """Return what sweep.json says, nothing where there is none; refuse a damaged one."""
        if not self.exists:
            return SweepInfo()
        try:
            found = read_sealed(self._info_file)
            lists = {name: found.get(name, []) for name in ("command", "keys", "expected", "logarithmic")}
            texts = {name: found.get(name, "") for name in ("identity", "metric")}
            begun, highest = found.get("begun", 0), found.get("highest", False)
            are_right = all(map(are_texts, [*lists.values(), list(texts.values())])) and isinstance(highest, bool)
            if not are_right or not is_number(begun):
                raise DamagedError("it does not describe a sweep")
        except DamagedError as error:
            raise UserError(
                f"{self._info_file} cannot be used ({error}): delete it, and give sweep.dir again"
            ) from error
        return SweepInfo(begun=begun, highest=highest, **lists, **texts)

    def _write_info(self, info: SweepInfo) -> None:
        write_sealed(self._info_file, asdict(info))

    def snapshot(self) -> dict[Path, bytes]:
        """Return the content of the last command's files, for `restore`."""
        files = (self._info_file, self._stop_file, self._launched_file)
        with readable(self.path):
            return {file: file.read_bytes() for file in files if file.is_file()}

    def restore(self, snapshot: Mapping[Path, bytes]) -> None:
        """Undo what a command that was refused has changed since the snapshot."""
        for file in (self._stop_file, self._launched_file):
            file.unlink(missing_ok=True)
        for file, content in snapshot.items():
            write_atomic(file, content)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Refuse other commands while inside, or this one if another is: each would take the other's runs for dead."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = Lock(self._lock_file)
            acquired = lock.acquire(timeout=0)
        if not acquired:
            raise UserError(f"{self.path} is in use: another vae-run -m works in it; wait for its end, or stop it")
        try:
            yield
        finally:
            lock.release()

    def delete_own_files(self) -> None:
        """Delete all but the runs' folders and what Hydra's plugins write; the lock last: what is left is another's."""
        files = [self._info_file, self._launched_file, self._stop_file, self.crash_file]
        files += [self.table_file, self.groups_file, self.page_file]
        files += [*self.path.glob(".slot_*"), *self.path.glob(".quarantine*")]
        for file in (*files, self._lock_file):
            file.unlink(missing_ok=True)

    def request_stop(self, number: int, refusal: str = "") -> None:
        """Ask all runs, on all machines, to end in checkpoints: as by this signal, or for a reason to refuse all."""
        # The first request counts. Where it cannot be written, the runs are ended by a signal, later.
        with suppress(OSError), self._stop_file.open("x", encoding="utf-8") as file:
            file.write(f"{int(number)} {refusal}")

    @property
    def stop_requested(self) -> int | None:
        """Return the signal by which all runs are asked to end, or None."""
        number, _, _ = self._stop_text.partition(" ")
        return int(number) if number.isdecimal() else None

    @property
    def refusal(self) -> str:
        """Return why all runs are refused, or nothing."""
        return self._stop_text.partition(" ")[2]

    @property
    def _stop_text(self) -> str:
        try:
            return self._stop_file.read_text(encoding="utf-8")
        except OSError:
            return ""

    @property
    def has_queued_jobs(self) -> bool:
        """Return whether runs were given to a scheduler, which may start them after the end of the command."""
        return any(self.path.glob(".submitit/*"))

    @property
    def runs(self) -> list[RunDirectory]:
        """Return the runs that have begun, in the order of their names, and those whose content permissions hide."""
        return [RunDirectory(path) for path in sorted(self.path.glob("*")) if _has_begun(path)]

    @property
    def not_begun(self) -> int:
        """Return how many of the expected runs have not begun."""
        begun = {run.path.name[-ID_CHARACTERS:] for run in self.runs}
        return len(set(self.info.expected) - begun)

    @property
    def folders(self) -> dict[str, str]:
        """Return the names of the runs' folders by the identities of the runs."""
        return {path.name[-ID_CHARACTERS:]: path.name for path in self.path.glob(RUNS) if path.is_dir()}

    def run_versions(self) -> dict[str, tuple[int, int]]:
        """Return, by a run's name, what changes whenever the run writes its run.json.

        Compare for equality only: the time is by the clock of the machine that wrote.
        """
        found = {}
        for file in self.path.glob(f"*/{RUN_FILE}"):
            with suppress(OSError):
                status = file.stat()
                found[file.parent.name] = (status.st_mtime_ns, status.st_ino)
        return found

    def remove_empty_runs(self) -> None:
        """Remove the folders of runs that were launched, but have written nothing."""
        for path in self.path.glob(RUNS):
            remove_empty(path)

    def slot_file(self, number: int) -> Path:
        """Return the lock file of one of the processes that run at the same time on this machine."""
        return self.path / f".slot_{socket.gethostname()}_{number}"  # Other machines may work in this folder too.

    @contextmanager
    def quarantine(self, name: str) -> Iterator[bool]:
        """Wait until no other process is inside; yield false if the one before has died in here."""
        with Lock(self._quarantine_file.with_suffix(".lock")):
            may_run = not self._quarantine_file.exists()
            if may_run:
                write_atomic(self._quarantine_file, name.encode())
            try:
                yield may_run
            finally:
                if may_run:
                    self._quarantine_file.unlink(missing_ok=True)

    def pop_died_in_quarantine(self) -> str | None:
        """Return the name of the run that died inside `quarantine`, or None, and admit others again."""
        name = self._quarantine_file.read_text() if self._quarantine_file.exists() else None
        self._quarantine_file.unlink(missing_ok=True)
        return name

    @property
    def crash_output(self) -> str:
        """Return the fatal messages in the crash file in one line, without notes, warnings and stack traces."""
        try:
            output = self.crash_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        fatal = [line for line in output.splitlines() if not NOT_FATAL.match(line)]
        return shorten(" ".join(fatal) or output, MAX_CRASH_OUTPUT, placeholder=" …")


def _has_begun(run: Path) -> bool:
    try:
        return (run / RUN_FILE).exists()
    except PermissionError:
        return fnmatch(run.name, RUNS)
