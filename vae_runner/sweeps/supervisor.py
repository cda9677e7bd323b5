"""The supervisor, `vae-run -m`: a process that trains nothing itself, and so outlives its runs.

It starts the process that launches the runs, keeps the sweep's table and page current, and, should that process be
lost, records which run died with it and starts another one for the rest. PROTOCOL.md draws it.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType

from hydra.core.override_parser.types import Override

from vae_runner.config.choices import parsed
from vae_runner.errors import Interrupted, UnwritableError, UserError, counted
from vae_runner.files.atomic import writing
from vae_runner.files.folders import remove_empty
from vae_runner.runtime import environment
from vae_runner.runtime.interruption import STOP_SIGNALS, handled_signals, handling
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import OUTDATED, PRUNED
from vae_runner.sweeps.choosing import check_extras, choose_directory, own_overrides
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import LAUNCHING, SECONDS_AT_ONCE, SECONDS_TO_END, WORKER_LOST, record_deaths
from vae_runner.sweeps.report import Report, Run

MAX_LOSSES = 3  # launching processes in a row that are lost before any of their runs has ended or died
POLL_SECONDS = 0.2
REFUSED = 2  # the exit status of a command that was refused
DONE = ("finished", PRUNED)  # of a run that has ended as it is meant to
SECONDS_TO_BE_KILLED = 2
PRDEATHSIG = 1  # of Linux's prctl


def supervise(arguments: Sequence[str]) -> None:
    """Run a sweep to its end, in a new directory or an old one, and show how each of its runs ended.

    Raises:
        UserError: the command was refused, or some of the runs failed.
        Interrupted: a stop was requested.
    """
    overrides = parsed(arguments)
    check_extras(overrides)
    environment.check()
    directory, arguments, existed = choose_directory(overrides, arguments)
    with directory.held():
        directory.pop_died_in_quarantine()  # A command that was killed may have left a name, which would admit no run.
        before = directory.run_versions()
        launching = _Launching(directory, Report(directory), arguments)
        if _launch(directory, overrides, launching):
            _report(directory, launching, before)
            return
        if not existed:
            remove_empty(directory.path)
    nothing = "nothing is left of it"
    launching.end(f"interrupted before a run had begun: {nothing}", f"no run had begun: {nothing}")


def _launch(directory: SweepDirectory, overrides: Sequence[Override], launching: "_Launching") -> bool:
    """Launch the runs; return whether a sweep came of it: if not, the directory is as it was before."""
    before, versions = directory.snapshot(), directory.run_versions()
    existed, had_study = directory.exists, directory.study_file.exists()
    keys = [override.key_or_group for override in overrides if override.is_sweep_override()]
    directory.begin([str(override.input_line) for override in own_overrides(overrides)], keys)
    launching.run()
    if launching.stop_signal or launching.given_up:
        directory.remove_empty_runs()
    if existed:
        is_refused = bool(launching.refusal) or launching.status == REFUSED
        came_of_it = not is_refused or directory.run_versions() != versions
    else:
        came_of_it = bool(directory.runs) or (launching.stop_signal is not None and directory.has_queued_jobs)
    if not came_of_it:
        if not had_study:
            directory.study_file.unlink(missing_ok=True)
        if existed:
            directory.restore(before)
        else:
            directory.delete_own_files()
    return came_of_it


def _report(directory: SweepDirectory, launching: "_Launching", before: Mapping[str, object]) -> None:
    """Show all runs, and raise what kept those that have been worked on since `before` from finishing."""
    report = launching.report
    report.write()
    report.show()
    versions = directory.run_versions()
    own = [run for run in report.runs if run.status in DONE or versions.get(run.name) != before.get(run.name)]
    again = f"the same command with sweep.dir={shlex.quote(str(directory.path))}"
    not_begun = f" ({count} not begun)" if launching.stop_signal and (count := directory.not_begun) else ""
    launching.end(f"interrupted{not_begun}: {again} continues it", f"{again} continues it", _failure(own, again))


def _failure(runs: Sequence[Run], again: str) -> str:
    """Return how many of the runs did not finish, the error of the first and what to do; nothing if all finished."""
    unfinished = [run for run in runs if run.status not in DONE]
    if not unfinished:
        return ""
    first = min(unfinished, key=lambda run: run.status != "failed")
    how = "failed" if all(run.status == "failed" for run in unfinished) else "did not finish"
    repeats = "repeats it" if len(unfinished) == 1 else "repeats them"
    return (
        f"{first.error or f'{first.name} is {first.status}'} ({len(unfinished)} of {counted(len(runs), 'run')} "
        f"{how}; {again} {'continues it then' if first.status in ('damaged', OUTDATED) else repeats})"
    )


class _Launching:
    """The launching process: started, watched, and replaced where it is lost."""

    def __init__(self, directory: SweepDirectory, report: Report, arguments: Sequence[str]) -> None:
        self.status = 0  # the last process's exit status, as shells have it
        self.refusal = ""  # of all runs, by one of them
        self.given_up = ""  # how the last process was lost, where no other is started
        self.stop_signal: int | None = None  # what stops the sweep, whichever process received it
        self.report = report
        self._directory = directory
        self._arguments = arguments
        self._process: int | None = None  # while there is one

    def run(self) -> None:
        """Launch, and launch again after a process was lost, until nothing is left to do or the sweep is to stop."""
        losses = 0  # since a run has ended or died
        with handling(handled_signals(), self._handle):
            while not self.stop_signal:
                before, ended = self._directory.run_versions(), self._count_ended()
                status = self._run_process()
                self.status = status if status >= 0 else 128 - status
                crash = self._directory.crash_output if status else ""
                if self.stop_signal or not (status < 0 or status == WORKER_LOST or crash):
                    return
                died = self._died_since(before)
                losses = 0 if died or self._count_ended() != ended else losses + 1
                how = _how_lost(status)
                if losses and (crash or losses == MAX_LOSSES):
                    why = f" while TensorFlow was imported: {crash}" if crash else ", again and again"
                    self.given_up = f"the process that launches the runs died {how}{why}"
                    return
                record_deaths(self._directory, died, how)

    def end(self, interrupted: str, advice: str, failure: str = "") -> None:
        """Raise how the command ends, unless all runs have finished.

        Raises:
            UserError: all runs were refused, with their `failure`, or because no other process is started.
            Interrupted: a stop was requested; its text is `interrupted`.
            SystemExit: the launching process ended with a status of its own.
        """
        if self.refusal:
            raise UserError(self.refusal)
        if self.stop_signal:
            raise Interrupted(self.stop_signal, interrupted)
        if failure or self.given_up:
            raise UserError(failure or f"{self.given_up} ({advice})")
        if self.status:
            sys.exit(self.status)

    def _count_ended(self) -> int:
        return sum(_status(run) in (*DONE, "failed", "interrupted") for run in self._directory.runs)

    def _died_since(self, before: Mapping[str, object]) -> list[RunDirectory]:
        """Return the dead runs that have written since then; those that were dead before are not to blame."""
        now = self._directory.run_versions()
        written = [run for run in self._directory.runs if now.get(run.path.name) != before.get(run.path.name)]
        return [run for run in written if _status(run) == "dead"]

    def _run_process(self) -> int:
        """Run a launching process to its end; return its exit status, negative if a signal ended it."""
        with writing(self._directory.crash_file):
            self._directory.crash_file.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", "from vae_runner.cli.commands import run; run()", *self._arguments],
            env={**os.environ, LAUNCHING: str(self._directory.path.absolute())},
            process_group=0,  # A terminal's Ctrl-C reaches the supervisor alone, which forwards it.
            preexec_fn=_prepare_process,
        )
        self._process = process.pid
        if self.stop_signal:  # It came while the process was started.
            self._forward(self.stop_signal)
        while True:
            try:
                status = process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                with suppress(UnwritableError, OSError):  # The runs may still end well; the last report will raise it.
                    self.report.keep_current()
        self._process = None
        self.stop_signal = self.stop_signal or self._directory.stop_requested
        self.refusal = self._directory.refusal
        if status or self.stop_signal:
            _end_group(process.pid, SECONDS_AT_ONCE if self.stop_signal else SECONDS_TO_END)
        return status

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = self.stop_signal or number
        self._forward(number)

    def _forward(self, number: int) -> None:
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
    except UserError:  # The report shows what is wrong with its run.json.
        return "damaged"


def _end_group(group: int, seconds_to_end: float) -> None:
    """End the processes that are left of a process group: SIGTERM for so many seconds, then SIGKILL."""
    start = time.monotonic()
    with suppress(ProcessLookupError):  # None is left.
        # There is a limit, because an ended process stays in the group until its parent, whichever it is, waits for it.
        while (seconds := time.monotonic() - start) < seconds_to_end + SECONDS_TO_BE_KILLED:
            os.killpg(group, signal.SIGTERM if seconds < seconds_to_end else signal.SIGKILL)
            with suppress(ChildProcessError):  # In a container, orphans may have become our children.
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            time.sleep(POLL_SECONDS)


def _prepare_process() -> None:
    """Block stop signals in the new process until it handles them, and have it get SIGTERM if its supervisor is killed.

    Else a signal during its imports would be answered by Python, and a sweep would continue without its supervisor.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PRDEATHSIG, signal.SIGTERM)
