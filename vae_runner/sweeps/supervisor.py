"""`vae-run -m`: a process that trains nothing itself, and so outlives whatever happens to the runs of a sweep.

It starts the process that Hydra launches the runs from, keeps the sweep's table and page current, and, should that
process be lost, notes which run was lost with it and starts another for the rest.
"""

import ctypes
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vae_runner.errors import Interrupted, UserError
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import CHILD, WORKER_LOST
from vae_runner.sweeps.report import Report

POLL_SECONDS = 0.2
OUTPUTS = "outputs"  # where conf/config.yaml puts sweeps
EXTRAS = {  # a launcher's or sweeper's name, and the plugin it needs
    "joblib": "hydra_joblib_launcher",
    "slurm": "hydra_submitit_launcher",
    "slurm_local": "hydra_submitit_launcher",
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
    overrides = _overrides(arguments)
    _check_extras(overrides)
    directory, rest = _choose_directory(overrides, arguments)
    new = not directory.exists
    own = [str(o.input_line) for o in overrides if o.key_or_group.split(".")[0] not in ("sweep", "hydra")]
    directory.begin(own, [o.key_or_group for o in overrides if o.is_sweep_override()])
    report = Report(directory)
    status = _run_until_done(directory, report, rest)
    if new and not directory.runs:  # refused before there was a run
        _leave_nothing(directory)
        sys.exit(status)
    report.write()
    report.show()
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(status - 128, f"interrupted: the same command with sweep.dir={directory.path} goes on")
    failed = [run for run in report.runs if run.status == "failed"]
    if failed:
        raise UserError(
            f"{failed[0].error} ({len(failed)} of {len(report.runs)} runs failed; the same command with "
            f"sweep.dir={directory.path} repeats them)"
        )
    if status:
        sys.exit(status)


def _run_until_done(directory: SweepDirectory, report: Report, arguments: Sequence[str]) -> int:
    """The exit status of the process that launches the runs. One that was lost with a run is replaced for the rest."""
    while True:
        status = _run_process(arguments, report)
        lost = status < 0 or status == WORKER_LOST
        dead = [run for run in directory.runs if run.status == "dead"]
        if not lost or not dead:
            return status if status >= 0 else 128 - status
        for run in dead:
            how = f"of signal {signal.Signals(-status).name}" if status < 0 else "with a process of its launcher"
            run.write_info(
                {**run.info, "status": "failed", "ended_at": time.time(), "error": f"the process died {how}"}
            )


def _run_process(arguments: Sequence[str], report: Report) -> int:
    """Start the process that launches the runs, and keep the report current until its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from vae_runner.cli import run; run()", *arguments],
        env={**os.environ, CHILD: "1"},
        process_group=0,  # so that Ctrl-C reaches it once, through us
        preexec_fn=_die_with_parent,
    )
    with _signals_to(process):
        while True:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                report.keep_current()


def _die_with_parent() -> None:
    """A sweep whose supervisor is killed ends, as by SIGTERM, and can be resumed; without this it would go on alone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PRDEATHSIG, signal.SIGTERM)


@contextmanager
def _signals_to(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Leave the answer to signals to the process, and to those that it has started."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- which directory ----------------------------------------------------------------------------------------------


def _choose_directory(overrides: Sequence[Override], arguments: Sequence[str]) -> tuple[SweepDirectory, list[str]]:
    """The sweep's directory, and the arguments with it in Hydra's words."""
    rest = [argument for argument in arguments if not re.match(r"(sweep|sweep\.dir|hydra\.sweep\.dir)=", argument)]
    given = {
        o.key_or_group: str(o.value()).strip("'\"")
        for o in overrides
        if o.key_or_group.startswith(("sweep", "hydra.sweep.dir"))
    }
    path = given.get("sweep.dir") or given.get("hydra.sweep.dir")
    if path:
        directory = SweepDirectory(Path(path))
    elif given.get("sweep") == "resume":
        directory = _newest_like(overrides)
        print(f"Going on with {directory.path}")
    else:
        directory = SweepDirectory(Path(OUTPUTS) / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S"))
    return directory, [*rest, f"hydra.sweep.dir='{directory.path!s}'"]


def _newest_like(overrides: Sequence[Override]) -> SweepDirectory:
    """The newest sweep of the same command, or else of the same keys."""
    files = sorted(Path(OUTPUTS).glob("*/*/sweep.json"), reverse=True)
    sweeps = [SweepDirectory(file.parent) for file in files]
    own = [o for o in overrides if o.key_or_group.split(".")[0] not in ("sweep", "hydra")]
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


def _leave_nothing(directory: SweepDirectory) -> None:
    directory.delete_own_files()
    with suppress(OSError):
        for folder in (directory.path, *directory.path.parents[:2]):
            if folder == Path():
                break
            folder.rmdir()


def _check_extras(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.key_or_group not in ("hydra/launcher", "hydra/sweeper"):
            continue
        plugin = EXTRAS.get(str(override.value()))
        if plugin and importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
            raise UserError(f"{override.input_line} needs an extra: pip install 'vae-runner[sweep]'")


def _overrides(arguments: Sequence[str]) -> list[Override]:
    """Those that can be read; Hydra will tell of the others."""
    read = []
    for word in arguments:
        if not word.startswith("-"):
            with suppress(HydraException):
                read.append(OverridesParser.create().parse_override(word))
    return read
