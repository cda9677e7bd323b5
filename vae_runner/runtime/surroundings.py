"""What a run's numbers come from beside its configuration: code, packages, interpreter, processor, driver."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import ClassVar

import vae_runner
from vae_runner.files.folders import RUN_FILE, SWEEP_FILE

SECONDS_MORE = 2  # for git, when a run has finished
MAX_DIFF = 4 << 20  # bytes of changes that are kept; of more it is only said that there are some
CHECKOUTS = ("git", "vae_runner_git")  # keys of run.json: the working directory's, and the one vae-runner is run from

# No locks that the user's own git would wait for, no questions, no downloads; and no programs that the repository, or
# one in it, names, of which the filters of `.gitattributes` need options of their own.
GIT = ("git", "--no-pager", "-c", "core.fsmonitor=false")
GIT_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # what a hook has git look at instead
DIFF = (
    *("diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("--ignore-submodules=dirty", "--submodule=short"),  # of a submodule its commit: its filters are its own
    *("--src-prefix=a/", "--dst-prefix=b/"),  # whatever the user's settings say, `git apply` is to take it
)


class Surroundings:
    """What is around the runs of this process, as run.json has it; as a context manager it ends what asks git.

    git is asked in the background: one that is slow or hangs delays no training, and until it has answered, or where
    there is none, or it refuses, its entry is None.
    """

    _too_slow: ClassVar[set[Path]] = set()  # checkouts for whose git this process has waited in vain

    def __init__(self, save_diff: Callable[[str, bytes], None]) -> None:
        """Ask git; `save_diff` is given the name of a checkout and its changes, nothing where it has none."""
        self._save_diff = save_diff
        folders = _checkout_of(Path.cwd()), _own_checkout()
        self._asked = {folder: Checkout(folder) for folder in folders if folder is not None}
        self._checkouts = {
            name: self._asked[folder] for name, folder in zip(CHECKOUTS, folders, strict=True) if folder is not None
        }
        self._entries: dict[str, object] = dict.fromkeys(CHECKOUTS)

    def __enter__(self) -> "Surroundings":
        return self

    def __exit__(self, *error: object) -> None:
        for checkout in self._asked.values():
            checkout.close()

    def wait(self) -> None:
        """Give a git that has not answered yet a little more time: a short run may be over before it has.

        After another run of this process has waited in vain, do not wait.
        """
        end = time.monotonic() + SECONDS_MORE
        for folder, checkout in self._asked.items():
            if folder not in self._too_slow:
                checkout.join(max(end - time.monotonic(), 0))
                if checkout.is_alive():
                    self._too_slow.add(folder)

    def entries(self) -> Mapping[str, object]:
        """Return the entries of run.json, as far as they are known; keep changes that have become known."""
        for name, checkout in self._checkouts.items():
            if self._entries[name] is None and checkout.commit is not None:
                self._entries[name] = self._entry(name, checkout)
        return {**self._entries, "interpreter": interpreter(), "packages": packages()}

    def _entry(self, name: str, checkout: "Checkout") -> dict[str, object]:
        first = next(other for other, of in self._checkouts.items() if of is checkout)  # both may be the same
        changes = checkout.changes
        if first == name:
            self._save_diff(name, changes if changes is not None else b"")
        return {
            "commit": checkout.commit,
            "dirty": changes != b"",
            "diff": f"{first}.diff" if changes else None,
            "diff_sha256": hashlib.sha256(changes).hexdigest() if changes else None,
        }


class Checkout(Thread):
    """Asks git about a checkout; `commit` is None until it has answered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name=f"git in {folder}", daemon=True)
        self.commit: str | None = None
        self.changes: bytes | None = None  # of tracked files since the commit; None where they are more than MAX_DIFF
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.start()

    def run(self) -> None:
        """Ask for the commit and for what has changed since."""
        commit = self._answer("rev-parse", "--verify", "HEAD")
        without_filters = self._without_filters() if commit else None
        changes = None if without_filters is None else self._answer(*without_filters, *DIFF)
        if commit and changes is not None:
            self.changes = None if len(changes) > MAX_DIFF else changes
            self.commit = commit.decode(errors="replace").strip()  # last, as it says that both are known

    def _without_filters(self) -> list[str] | None:
        """Return options with which git runs no program of a filter, or None where no option of git's says so.

        An option ends the name of what it sets at its first `=`; the variables that could name it whole are newer than
        some git that is in use, which would run the program.
        """
        found = self._answer(
            "config", "--null", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process|required)$"
        )
        names = (found or b"").decode(errors="surrogateescape").split("\0")
        if "=" in "".join(names):
            return None
        values = {name: "false" if name.endswith("required") else "" for name in names if name}
        return [word for name, value in values.items() for word in ("-c", f"{name}={value}")]

    def close(self) -> None:
        """End a git that has not answered yet."""
        self._closed = True
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def _answer(self, *words: str) -> bytes | None:
        """Return what git says, of more than MAX_DIFF bytes one more than that; None where it does not say anything."""
        environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        try:
            self._process = subprocess.Popen(
                [*GIT, "-C", os.fspath(self._folder), *words],
                env={**environment, **GIT_ENVIRONMENT},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            return None
        with self._process as process:
            if self._closed:
                process.kill()
            assert process.stdout is not None
            answer = process.stdout.read(MAX_DIFF + 1)
            if len(answer) > MAX_DIFF:
                process.kill()
        return answer if process.returncode == 0 or (len(answer) > MAX_DIFF and not self._closed) else None


def _checkout_of(folder: Path) -> Path | None:
    """Return the git checkout that a folder is in, or None; a run's or a sweep's directory, which is data, is none."""
    for around in (folder, *folder.parents):
        with suppress(OSError):
            if (around / ".git").exists() and not any((around / name).exists() for name in (RUN_FILE, SWEEP_FILE)):
                return around
    return None


def _own_checkout() -> Path | None:
    """Return the checkout that vae-runner is run from, or None where it is installed as a package."""
    folder = Path(vae_runner.__file__).resolve().parents[1]
    return folder if _checkout_of(folder) == folder else None


def interpreter() -> dict[str, str]:
    """Return which Python this is, and where."""
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "executable": sys.executable,
    }


@cache
def packages() -> str:
    """Return all installed packages, sorted, each as `name==version`, with spaces between them, as pip takes them.

    It is one text, because run.json is read ten thousand times for a list of runs, and a list would double that time.
    The first lines of each one's metadata are read, and not parsed as the mail that they are: that is six times faster.
    """
    found: dict[str, str] = {}
    for package in metadata.distributions():
        try:
            text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
        except UnicodeDecodeError:  # Pip cannot read it either.
            continue
        name, version = (re.search(rf"^{key}: *(\S+)", text, re.MULTILINE) for key in ("Name", "Version"))
        if name and version:
            found.setdefault(name[1], version[1])  # the first on the path is the one that is imported
    return " ".join(f"{name}=={found[name]}" for name in sorted(found, key=str.lower))


@cache
def processor() -> tuple[str, str]:
    """Return the model of the processor, and its flags; "" for flags where the system does not list them."""
    found: dict[str, str] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                break  # the other cores are like the first
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    model = found.get("model name") or platform.processor() or platform.machine()
    return model, found.get("flags") or found.get("Features") or ""


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; None where the system does not say it."""
    with suppress(OSError):
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        if version := re.search(r"Kernel Module\D*?\s(\d[\d.]+)\s", text):
            return version[1]
    return None
