"""The only code that knows a file name inside a sweep's directory; those of its runs are `run_directory`'s.

```
sweep.json           the command, which keys it varies, and which runs that makes
sweep.csv            a row a run: what it is, its status, its metrics
sweep.html           the same as a page, with pictures and plots
multirun.yaml        Hydra's own: the configuration that it launched the runs from
study.db             Optuna's own (conf/hydra/sweeper/optuna.yaml)
.lock                held by the command that works here
.end                 all runs are to end in checkpoints, on whatever machine: a signal's number, or what is refused
.slot_<host>_<n>     locks of the processes that run at the same time on a machine
.suspect*            locks of the processes that run at the same time
.last_words          what processes said that ended while TensorFlow was imported
<varied>-<id>/       a run, known by what it computes
```
"""

import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from textwrap import shorten
from typing import Any

from vae_runner.config.fingerprint import ID_CHARACTERS
from vae_runner.errors import FormatError, UserError
from vae_runner.files.atomic import write_atomic, writing
from vae_runner.files.folders import LOG, RUN_FILE, SWEEP_FILE, check_own, remove_empty
from vae_runner.files.locks import Lock
from vae_runner.files.sealed import read_sealed, write_sealed
from vae_runner.files.untrusted import DamagedError, are_texts, is_file, is_number, readable
from vae_runner.storage.run_directory import RunDirectory

MAX_LAST_WORDS = 400  # characters
NOT_FATAL = re.compile(r"[IWE]\d{4} |WARNING: All log messages before|\*\*\* |\s+@ ")
RUNS = "*" + ID_CHARACTERS * "[0-9a-f]"  # their folders
# All that lies in a sweep's directory, and what shows that it is one, where its sweep.json was lost.
NAMES = (SWEEP_FILE, "sweep.csv", "sweep.html", "multirun.yaml", "study.db*", LOG, ".lock", RUNS)
MARKS = (".lock", f"{RUNS}/{RUN_FILE}")


class SweepDirectory:
    """A sweep's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether this is a sweep's directory.

        Raises:
            UnreadableError: one may not know.
        """
        return is_file(self._info_file)

    def check_own(self) -> None:
        """Refuse a folder with something in it that no sweep has written: a sweep would write over it.

        Raises:
            UserError: there is such a thing, or one may not know.
        """
        if not self.exists:
            check_own(self.path, "a sweep", NAMES, MARKS)

    def check_format(self) -> None:
        """Refuse a sweep with a run of another format, which could neither be continued nor compared with new ones.

        Raises:
            FormatError: there is such a run.
        """
        for run in self.runs:
            try:
                _ = run.info
            except FormatError:
                raise
            except UserError:  # The report names damaged runs, and leaves the others alone.
                continue

    def begin(self, command: Sequence[str], keys: Sequence[str]) -> None:
        """Note that a command works in this sweep from now on; `keys` are those that it varies."""
        with writing(self._end_file):
            self._end_file.unlink(missing_ok=True)
        keys = list(dict.fromkeys([*self.keys, *keys]))
        self._write_info({"command": list(command), "keys": keys, "begun": int(time.time())})

    def expect(self, identities: Iterable[str]) -> None:
        """Note which runs, by their identities, the command that works here is to bring to their end."""
        self._write_info({**self._info, "expected": list(identities)})

    @property
    def unbegun(self) -> int:
        """How many of the runs that are expected have not begun."""
        begun = {run.path.name[-ID_CHARACTERS:] for run in self.runs}
        return len(set(self._info.get("expected", [])) - begun)

    def _write_info(self, info: Mapping[str, Any]) -> None:
        write_sealed(self._info_file, info)

    def kept(self) -> dict[Path, bytes]:
        """Return what there is of the last command; `put_back` makes this its sweep again."""
        files = (self._info_file, self._end_file, self._launched_file)
        with readable(self.path):
            return {file: file.read_bytes() for file in files if file.is_file()}

    def put_back(self, kept: Mapping[Path, bytes]) -> None:
        """Forget the command since: it was refused."""
        for file in (self._end_file, self._launched_file):
            file.unlink(missing_ok=True)
        for file, content in kept.items():
            write_atomic(file, content)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands from working in this sweep: each would take the other's runs for dead.

        Raises:
            UserError: another one does, or nothing can be written here.
        """
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

    def remove_unbegun(self) -> None:
        """Remove the folders of runs that were launched, but have written nothing."""
        for path in self.path.glob(RUNS):
            remove_empty(path)

    @property
    def jobs_may_wait(self) -> bool:
        """Whether runs have been handed to a scheduler, which may begin them when nothing of this command is left."""
        return any(self.path.glob(".submitit/*"))

    def delete_own_files(self) -> None:
        """Delete what is not its runs'."""
        own = (self._info_file, self.table_file, self.page_file, self._lock_file, self._end_file)
        named = (*own, self._launched_file, self.last_words_file)
        for file in (*named, *self.path.glob(".slot_*"), *self.path.glob(".suspect*")):
            file.unlink(missing_ok=True)

    def request_stop(self, number: int, refusal: str = "") -> None:
        """Have all runs end in checkpoints, wherever they are: as by this signal, or because a `refusal` is for all."""
        # The first one counts. Where there is no room for it, they are ended by a signal, later.
        with suppress(OSError), self._end_file.open("x", encoding="utf-8") as file:
            file.write(f"{int(number)} {refusal}")

    @property
    def stop_requested(self) -> int | None:
        """Return the signal that all runs are to end because of, if any, since the last command began."""
        number, _, _ = self._end_text.partition(" ")
        return int(number) if number.isdecimal() else None

    @property
    def refusal(self) -> str:
        """Return why all runs are to end, if it is no signal."""
        return self._end_text.partition(" ")[2]

    @property
    def command(self) -> list[str]:
        """The overrides of the command that worked here last."""
        return list(self._info.get("command", []))

    @property
    def keys(self) -> list[str]:
        """The keys that its runs differ in, as the commands had them."""
        return list(self._info.get("keys", []))

    @property
    def begun(self) -> float:
        """When the command that worked here last began, in seconds since 1970."""
        return float(self._info.get("begun", 0))

    def folder_of(self, identity: str) -> str | None:
        """Return the name of the folder of the run with this identity, if it is here."""
        return next((path.name for path in self.path.glob(f"*{identity}") if path.is_dir()), None)

    @property
    def runs(self) -> list[RunDirectory]:
        """The runs that have begun, in the order of their names, and those of which one may not know that."""
        return [RunDirectory(path) for path in sorted(self.path.glob("*")) if _has_begun(path)]

    def written(self) -> dict[str, tuple[int, int]]:
        """Return what changes, for each run by its name, when the run writes what it has come to.

        No moment is compared with this machine's: the one that wrote may have another clock.
        """
        found = {}
        for file in self.path.glob(f"*/{RUN_FILE}"):
            with suppress(OSError):
                of_file = file.stat()
                found[file.parent.name] = (of_file.st_mtime_ns, of_file.st_ino)
        return found

    @property
    def table_file(self) -> Path:
        """The table of all runs."""
        return self.path / "sweep.csv"

    @property
    def study_file(self) -> Path:
        """Optuna's study."""
        return self.path / "study.db"

    @property
    def page_file(self) -> Path:
        """The page about all runs."""
        return self.path / "sweep.html"

    def slot_file(self, number: int) -> Path:
        """Return the lock file of a process that runs at the same time as others on this machine."""
        return self.path / f".slot_{socket.gethostname()}_{number}"  # other machines may work in this folder too

    @contextmanager
    def only_suspect(self, name: str) -> Iterator[bool]:
        """Wait until no other process is in here; false if the one before did not leave, but died."""
        with Lock(self._suspect_file.with_suffix(".lock")):
            alone = not self._suspect_file.exists()
            if alone:
                write_atomic(self._suspect_file, name.encode())
            try:
                yield alone
            finally:
                if alone:
                    self._suspect_file.unlink(missing_ok=True)

    def take_suspect(self) -> str | None:
        """Return, and forget, the run that died inside `only_suspect`, if one did since this was asked last."""
        name = self._suspect_file.read_text() if self._suspect_file.exists() else None
        self._suspect_file.unlink(missing_ok=True)
        return name

    @property
    def last_words_file(self) -> Path:
        """What processes said that ended while TensorFlow was imported, since the last that launches runs began."""
        return self.path / ".last_words"

    @property
    def last_words(self) -> str:
        """The fatal ones of them in one line: no notes, warnings and stack traces of TensorFlow's."""
        try:
            said = self.last_words_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        fatal = [line for line in said.splitlines() if not NOT_FATAL.match(line)]
        return shorten(" ".join(fatal) or said, MAX_LAST_WORDS, placeholder=" …")

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    @property
    def _end_file(self) -> Path:
        return self.path / ".end"

    @property
    def _launched_file(self) -> Path:
        return self.path / "multirun.yaml"

    @property
    def _end_text(self) -> str:
        try:
            return self._end_file.read_text(encoding="utf-8")
        except OSError:
            return ""

    @property
    def _suspect_file(self) -> Path:
        return self.path / ".suspect"

    @property
    def _info_file(self) -> Path:
        return self.path / SWEEP_FILE

    @property
    def _info(self) -> dict[str, Any]:
        if not self.exists:
            return {}
        try:
            info = read_sealed(self._info_file)
            lists = (info.get(name, []) for name in ("command", "keys", "expected"))
            if not all(are_texts(value) for value in lists) or not is_number(info.get("begun", 0)):
                raise DamagedError("it does not tell what a sweep is")
        except DamagedError as error:
            raise UserError(
                f"{self._info_file} cannot be used ({error}): delete it, and give sweep.dir again"
            ) from error
        return info


def _has_begun(run: Path) -> bool:
    try:
        return (run / RUN_FILE).exists()
    except PermissionError:
        return fnmatch(run.name, RUNS)
