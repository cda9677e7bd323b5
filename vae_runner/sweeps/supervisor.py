"""`vae-run -m`: a process that trains nothing itself, and so outlives whatever happens to the runs of a sweep.

It starts the process that Hydra launches the runs from, keeps the sweep's table and page current, and, should that
process be lost, notes which run was lost with it and starts another for the rest.
"""

import ctypes
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hydra.core.override_parser.types import Override

from vae_runner.config import refusals
from vae_runner.config.choices import parsed
from vae_runner.errors import Interrupted, UnwritableError, UserError, did_you_mean
from vae_runner.files.atomic import writing
from vae_runner.files.folders import OUTPUTS, make_next_folder, remove_empty
from vae_runner.runtime import environment
from vae_runner.runtime.interruption import STOP_SIGNALS, handled_signals
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import OUTDATED
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import CHILD, MULTI_WORKER, SECONDS_AT_ONCE, SECONDS_TO_END, WORKER_LOST, note_deaths
from vae_runner.sweeps.report import Report, Run, counted

MAX_UNEXPLAINED = 3  # processes in a row that are lost before any run of theirs has come to anything
POLL_SECONDS = 0.2
KINDS = ("new", "resume")  # conf/sweep/
COUNTS = ("hydra.sweeper.n_trials", "hydra.sweeper.n_jobs")  # that Optuna does not check
REFUSED = 2  # the exit status of a command that makes no sense
SECONDS_TO_BE_KILLED = 2
EXTRAS = {  # a launcher's or sweeper's name, and the plugin it needs
    "joblib": "hydra_joblib_launcher",
    "slurm": "hydra_submitit_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
    "optuna": "hydra_optuna_sweeper",
}
PRDEATHSIG = 1  # of Linux's prctl


def supervise(arguments: Sequence[str]) -> None:
    """Run a sweep to its end, in a new directory or in an old one, and say how each run of it ended.

    Raises:
        UserError: the command makes no sense, or some of the runs failed.
        Interrupted: a signal asked for the end.
    """
    overrides = parsed(arguments)
    _check_extras(overrides)
    environment.check()
    directory, rest, existed = _choose_directory(overrides, arguments)
    searched = directory.study_file.exists()
    with directory.held():
        directory.take_suspect()  # of a command that was killed: its name would keep every suspect from being run
        before = directory.written()
        launching = _Launching(directory, Report(directory), rest)
        status = _launch(directory, overrides, launching)
        if status is None:
            _tell(directory, launching, before)
            return
    if not searched:
        directory.study_file.unlink(missing_ok=True)
    if not existed:
        remove_empty(directory.path)
    if launching.refusal:
        raise UserError(launching.refusal)
    if launching.stop_signal:
        raise Interrupted(launching.stop_signal, "interrupted before a run had begun: nothing is left of it")
    if launching.given_up:
        raise UserError(f"{launching.given_up} (no run had begun: nothing is left of the sweep)")
    sys.exit(status)


def _launch(directory: SweepDirectory, overrides: Sequence[Override], launching: "_Launching") -> int | None:
    """Launch the runs; the exit status of a command that was refused, and has left nothing behind, else None."""
    before, written = directory.kept(), directory.written()
    existed = directory.exists
    own = [str(o.input_line) for o in overrides if o.key_or_group.split(".")[0] not in ("sweep", "hydra")]
    directory.begin(own, [o.key_or_group for o in overrides if o.is_sweep_override()])
    launching.status = launching.run()
    if launching.stop_signal or launching.given_up:
        directory.remove_unbegun()
    if not existed and not directory.runs and not (launching.stop_signal and directory.jobs_may_wait):
        directory.delete_own_files()
        return launching.status
    if existed and (launching.refusal or launching.status == REFUSED) and directory.written() == written:
        directory.put_back(before)
        return launching.status
    return None


def _tell(directory: SweepDirectory, launching: "_Launching", before: Mapping[str, object]) -> None:
    """Show all runs of the sweep, and raise what those that have been worked on since `before` did not come to."""
    report = launching.report
    report.write()
    report.show()
    if launching.refusal:
        raise UserError(launching.refusal)
    again = f"the same command with sweep.dir={shlex.quote(str(directory.path))}"
    if launching.stop_signal:
        to_begin = f" ({unbegun} not begun)" if (unbegun := directory.unbegun) else ""
        raise Interrupted(launching.stop_signal, f"interrupted{to_begin}: {again} goes on")
    now = directory.written()
    own = [run for run in report.runs if run.status == "finished" or now.get(run.name) != before.get(run.name)]
    unfinished = [run for run in own if run.status != "finished"]
    if unfinished:
        repeats = "repeats it" if len(unfinished) == 1 else "repeats them"
        first = min(unfinished, key=lambda run: run.status != "failed")
        raise UserError(
            f"{first.error or f'{first.name} is {first.status}'} ({len(unfinished)} of {counted(own)} "
            f"{_how(unfinished)}; {again} {'goes on then' if first.status in ('damaged', OUTDATED) else repeats})"
        )
    if launching.given_up:
        raise UserError(f"{launching.given_up} ({again} goes on)")
    if launching.status:
        sys.exit(launching.status)


def _how(unfinished: Sequence[Run]) -> str:
    return "failed" if all(run.status == "failed" for run in unfinished) else "did not finish"


class _Launching:
    """The process that Hydra launches the runs from: started, watched, and replaced where it is lost with a run."""

    def __init__(self, directory: SweepDirectory, report: Report, arguments: Sequence[str]) -> None:
        self.status = 0  # of the last process
        self.refusal = ""  # of all runs, by one of them
        self.given_up = ""  # how the process was lost, where it is not started again
        self.stop_signal: int | None = (
            None  # the signal that has asked this process, or the one that launches, for the end
        )
        self._directory = directory
        self.report = report
        self._arguments = arguments
        self._process: int | None = None  # while there is one

    def run(self) -> int:
        """Launch until there is nothing left to do; returns the exit status of the last process."""
        unexplained = status = 0
        with self._signals_passed_on():
            while not self.stop_signal:
                before, settled = self._directory.written(), self._settled()
                status = self._run_process()
                lost = status < 0 or status == WORKER_LOST
                words = self._directory.last_words if status else ""
                if self.stop_signal or not (lost or words):
                    break
                died = self._died_since(before)
                unexplained = 0 if died or self._settled() != settled else unexplained + 1
                how = _how_lost(status)
                if unexplained and (words or unexplained == MAX_UNEXPLAINED):
                    self.given_up = f"the process that launches the runs died {how}" + (
                        f" while TensorFlow was imported: {words}" if words else ", again and again"
                    )
                    break
                note_deaths(self._directory, died, how)
        return status if status >= 0 else 128 - status  # as shells have it

    def _settled(self) -> int:
        """How many runs have come to an end of some kind."""
        return sum(_status(run) in ("finished", "failed", "interrupted") for run in self._directory.runs)

    def _died_since(self, before: Mapping[str, object]) -> list[RunDirectory]:
        """Return the dead runs that have written since then: others were dead before, and are not to blame."""
        now = self._directory.written()
        return [
            run
            for run in self._directory.runs
            if now.get(n := run.path.name) != before.get(n) and _status(run) == "dead"
        ]

    def _run_process(self) -> int:
        with writing(self._directory.last_words_file):
            self._directory.last_words_file.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", "from vae_runner.cli.commands import run; run()", *self._arguments],
            env={**os.environ, CHILD: str(self._directory.path.absolute())},
            process_group=0,  # so that Ctrl-C reaches it once, through us
            preexec_fn=_prepare,
        )
        self._process = process.pid
        if self.stop_signal:  # while it was started
            self._pass_on(self.stop_signal)
        while True:
            try:
                status = process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                with suppress(UnwritableError, OSError):  # the runs may still end well, and the end tells of it
                    self.report.keep_current()
        self._process = None
        self.stop_signal = self.stop_signal or self._directory.stop_requested
        self.refusal = self._directory.refusal
        if status or self.stop_signal:
            _end_group(process.pid, SECONDS_AT_ONCE if self.stop_signal else SECONDS_TO_END)
        return status

    @contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        """Leave the answer to signals to the process that launches the runs."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            self.stop_signal = self.stop_signal or number
            self._pass_on(number)

        before = {number: signal.signal(number, pass_on) for number in handled_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process, number)


def _how_lost(status: int) -> str:
    if status < 0:
        return f"of signal {signal.Signals(-status).name}"
    return "with a process of its launcher" if status == WORKER_LOST else f"with status {status}"


def _status(run: RunDirectory) -> str:
    try:
        return run.status
    except UserError:  # its run.json is damaged: the report tells of it
        return "damaged"


def _end_group(group: int, seconds_to_end: float) -> None:
    """End what a process that is gone has left running: their runs are to be done again, by others."""
    begun = time.monotonic()
    with suppress(ProcessLookupError):
        # Not for ever: what has ended stays in the group until its parent, which may be any process, has noticed.
        while (seconds := time.monotonic() - begun) < seconds_to_end + SECONDS_TO_BE_KILLED:
            os.killpg(group, signal.SIGTERM if seconds < seconds_to_end else signal.SIGKILL)
            _notice_ends(group)
            time.sleep(POLL_SECONDS)


def _notice_ends(group: int) -> None:
    """Of those that have become our children: in a container, for want of another process that takes them."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def _prepare() -> None:
    """Have a sweep whose supervisor is killed end, as by SIGTERM, and signals wait until it handles them.

    Without this it would go on alone, and a signal that comes during its imports would be answered by Python.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PRDEATHSIG, signal.SIGTERM)


# --- which directory ----------------------------------------------------------------------------------------------


def _choose_directory(
    overrides: Sequence[Override], arguments: Sequence[str]
) -> tuple[SweepDirectory, list[str], bool]:
    """Return the sweep's directory, the arguments with it in Hydra's words, and whether it was there before."""
    rest = [
        argument
        for argument in arguments
        if not re.match(r"(sweep|sweep\.dir|sweep\.resume|hydra\.sweep\.dir)=", argument)
    ]
    given = {
        o.key_or_group: str(o.value()).strip("'\"")
        for o in overrides
        if o.key_or_group.startswith(("sweep", "hydra.sweep.dir"))
    }
    _check_given(overrides)
    read = {override.input_line for override in overrides}
    for argument in set(arguments) - set(rest) - read:
        raise UserError(
            f"{argument} cannot be read: a name with such letters needs quotes of its own, 'key=\"a name\"'"
        )
    path = given.get("sweep.dir") or given.get("hydra.sweep.dir")
    goes_on = given.get("sweep.resume", str(given.get("sweep") == "resume")).lower() == "true"
    if path:
        directory = SweepDirectory(Path(path))
        if goes_on and not directory.exists:
            raise UserError(f"sweep=resume: {path} is no sweep's directory: see where it is, or leave sweep= out")
        if directory.path.exists() and not directory.path.is_dir():
            raise UserError(f"{path} is a file: give a sweep a folder")
        if RunDirectory(directory.path).has_run:
            raise UserError(f"{path} is the directory of one run: give a sweep another one")
        directory.check_own()
        directory.check_format()
    elif goes_on:
        directory = _newest_like(overrides)
        directory.check_format()
        print(f"Going on with {directory.path}")
    else:
        new = Path(OUTPUTS) / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")
        refusals.quoted(new.absolute())  # or it would be refused when it has been made
        with writing(new):
            directory = SweepDirectory(make_next_folder(new))
    existed = bool(path or goes_on) and directory.path.exists()
    return directory, [*rest, f"hydra.sweep.dir={refusals.quoted(directory.path.absolute())}"], existed


def _check_given(overrides: Sequence[Override]) -> None:
    """Refuse what says which sweep it is, or how large, and makes no sense: Hydra does not see it, or takes it."""
    for override in overrides:
        if override.key_or_group in COUNTS and isinstance(count := override.value(), int) and count < 1:
            raise UserError(f"{override.key_or_group}={count}: must be at least 1")
        if override.key_or_group == "hydra.sweep.subdir":
            raise UserError(
                f"{override.input_line}: runs are found again by their folders' names, which tell what they compute; "
                "leave it out"
            )
        if override.key_or_group in ("sweep.dir", "hydra.sweep.dir") and override.is_sweep_override():
            raise UserError(f"{override.input_line}: a sweep has one directory; give one, in quotes if it has a comma")
        if override.key_or_group == "sweep" and str(override.value()) not in KINDS:
            word = str(override.value())
            raise UserError(f"sweep={word}: must be one of {', '.join(KINDS)}.{did_you_mean(word, KINDS)}")
        if override.key_or_group == "hardware" and str(override.value()) == "multi_worker":
            raise UserError(MULTI_WORKER)


def _newest_like(overrides: Sequence[Override]) -> SweepDirectory:
    """Return the newest sweep of the same command, or else of the same keys."""
    files = sorted(Path(OUTPUTS).glob("*/*/sweep.json"), reverse=True)
    sweeps = [sweep for file in files if _is_whole(sweep := SweepDirectory(file.parent))]
    own = [o for o in overrides if o.key_or_group.split(".")[0] not in ("sweep", "hydra")]
    if not own:
        raise UserError("sweep=resume: of which sweep? Repeat its command, or give its directory with sweep.dir=DIR")
    alike: tuple[Callable[[SweepDirectory], bool], ...] = (
        lambda sweep: set(sweep.command) == {o.input_line for o in own},
        lambda sweep: {word.partition("=")[0] for word in sweep.command} == {o.key_or_group for o in own},
    )
    for is_like in alike:
        for sweep in sweeps:
            if is_like(sweep):
                return sweep
    raise UserError(
        f"sweep=resume: there is no sweep of {', '.join(o.key_or_group for o in own)} in {OUTPUTS}/: give its "
        "directory with sweep.dir=DIR, or start one without sweep="
    )


def _is_whole(sweep: SweepDirectory) -> bool:
    try:
        sweep.keys  # noqa: B018 (reads the file)
        return True
    except UserError as error:
        print(f"Left out: {error}", file=sys.stderr)
        return False


def _is_installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # not even the package that all of them are in
        return False


def _check_extras(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.key_or_group not in ("hydra/launcher", "hydra/sweeper"):
            continue
        plugin = EXTRAS.get(str(override.value()))
        if plugin and not _is_installed(plugin):
            raise UserError(f"{override.input_line} needs an extra: pip install 'vae-runner[sweep]'")
