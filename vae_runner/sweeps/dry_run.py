"""`vae-run -m … --dry-run`: which runs a sweep has, and which of them are done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from vae_runner.config.choices import parsed
from vae_runner.errors import UserError, counted
from vae_runner.runtime.console import console, plain
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.choosing import check_extras, existing_directory
from vae_runner.sweeps.directory import SweepDirectory

NOT_BEGUN = "not begun"


def planned(arguments: Sequence[str]) -> tuple[SweepDirectory | None, list[str]]:
    """Return the directory that a command's sweep has already, if any, and the arguments without it.

    Raises:
        UserError: the command makes no sense, or its runs are not known before they begin.
    """
    overrides = parsed(arguments)
    check_extras(overrides)
    for override in overrides:
        if override.key_or_group == "hydra/sweeper" and override.value() != "basic":
            raise UserError(
                f"--dry-run: {override.input_line} chooses its runs one after the other: leave --dry-run out"
            )
    return existing_directory(overrides, arguments)


def show(directory: SweepDirectory | None, runs: Mapping[str, Sequence[str]]) -> None:
    """Print the runs, of these overrides by what identifies each, with their statuses in the sweep's directory."""
    folders = {} if directory is None else {of: directory.path / name for of, name in directory.folders.items()}
    statuses = {identity: _status(folders[identity]) if identity in folders else NOT_BEGUN for identity in runs}
    table = Table(box=None, pad_edge=False)
    for column in ("fingerprint", "status", "overrides"):
        table.add_column(column, overflow="fold")
    for identity, overrides in runs.items():
        style = {"finished": "", "failed": "red"}.get(statuses[identity], "yellow")
        table.add_row(identity, plain(statuses[identity]), plain(" ".join(overrides)), style=style)
    console.print(table)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(Counter(statuses.values()).items()))
    where = f" in {directory.path}" if directory is not None else ""
    console.print(plain(f"{counted(len(runs), 'run')}{where}: {counts}"), soft_wrap=True)


def _status(path: Path) -> str:
    """Return the status of the run in a folder."""
    try:
        run = StoredRun.open(path)
        run.check_config()
        return run.status
    except UserError:
        return "damaged"
