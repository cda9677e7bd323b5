"""Which sweep a command line means, and what makes no sense in it before Hydra sees it."""

import importlib.util
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override

from vae_runner.config import refusals
from vae_runner.errors import UserError, did_you_mean
from vae_runner.files.atomic import writing
from vae_runner.files.folders import OUTPUTS, make_next_folder
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import MULTI_WORKER

KINDS = ("new", "resume")  # conf/sweep/
PACKAGES = {  # by the launcher or sweeper that needs one
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
    "optuna": "optuna.storages.journal",
}


def choose_directory(overrides: Sequence[Override], arguments: Sequence[str]) -> tuple[SweepDirectory, list[str], bool]:
    """Return the sweep's directory, the arguments with it in Hydra's words, and whether it existed before.

    Raises:
        UserError: what the command says of its sweep makes no sense, or its directory cannot be used.
    """
    existing, rest = existing_directory(overrides, arguments)
    if existing is not None:
        directory = existing
        if not any(re.match(r"(hydra\.sweep|sweep)\.dir=", argument) for argument in arguments):
            print(f"Continuing {directory.path}")
    else:
        new = Path(OUTPUTS) / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")
        refusals.quoted(new.absolute())  # It refuses what cannot be quoted, here before the folder is made.
        with writing(new):
            directory = SweepDirectory(make_next_folder(new))
    existed = existing is not None and directory.path.exists()
    return directory, [*rest, f"hydra.sweep.dir={refusals.quoted(directory.path.absolute())}"], existed


def existing_directory(
    overrides: Sequence[Override], arguments: Sequence[str]
) -> tuple[SweepDirectory | None, list[str]]:
    """Return the directory that a command gives to its sweep or continues, if any, and the arguments without it.

    Raises:
        UserError: what the command says of its sweep makes no sense, or its directory cannot be used.
    """
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
    _check(overrides)
    for argument in set(arguments) - set(rest) - {override.input_line for override in overrides}:
        raise UserError(
            f"{argument} cannot be read: a name with such letters needs quotes of its own, 'key=\"a name\"'"
        )
    path = given.get("sweep.dir") or given.get("hydra.sweep.dir")
    resumes = given.get("sweep.resume", str(given.get("sweep") == "resume")).lower() == "true"
    if path:
        return _given_directory(path, resumes), rest
    if not resumes:
        return None, rest
    directory = _newest_sweep(overrides)
    directory.check_format()
    return directory, rest


def own_overrides(overrides: Sequence[Override]) -> list[Override]:
    """Return the overrides that say what the runs compute: not those of sweep and hydra."""
    return [override for override in overrides if override.key_or_group.split(".")[0] not in ("sweep", "hydra")]


def check_extras(overrides: Sequence[Override]) -> None:
    """Refuse launchers and sweepers whose package is not installed."""
    for override in overrides:
        if override.key_or_group not in ("hydra/launcher", "hydra/sweeper"):
            continue
        package = PACKAGES.get(str(override.value()))
        if package and not _is_installed(package):
            raise UserError(f"{override.input_line} needs an extra: pip install 'vae-runner[sweep]'")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # There is not even what it is in.
        return False


def _check(overrides: Sequence[Override]) -> None:
    """Refuse what says which sweep it is, or how large, and makes no sense: Hydra ignores it, or takes it as it is."""
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if key == "hydra.sweep.subdir":
            raise UserError(f"{line}: runs are found again by their folders, which say what they compute; leave it out")
        if key in ("sweep.dir", "hydra.sweep.dir") and override.is_sweep_override():
            raise UserError(f"{line}: a sweep has one directory; give one, in quotes if it has a comma")
        if key == "sweep" and (word := str(override.value())) not in KINDS:
            raise UserError(f"sweep={word}: must be one of {', '.join(KINDS)}.{did_you_mean(word, KINDS)}")
        if key == "hardware" and str(override.value()) == "multi_worker":
            raise UserError(MULTI_WORKER)


def _given_directory(path: str, resumes: bool) -> SweepDirectory:
    directory = SweepDirectory(Path(path))
    if resumes and not directory.exists:
        raise UserError(f"sweep=resume: {path} is not a sweep's directory: check the path, or leave sweep= out")
    if directory.path.exists() and not directory.path.is_dir():
        raise UserError(f"{path} is a file: give a sweep a folder")
    if RunDirectory(directory.path).has_run:
        raise UserError(f"{path} is the directory of one run: give a sweep another one")
    directory.check_own()
    directory.check_format()
    return directory


def _newest_sweep(overrides: Sequence[Override]) -> SweepDirectory:
    """Return the newest sweep of the same command, or else of the same keys."""
    own = own_overrides(overrides)
    if not own:
        raise UserError("sweep=resume: of which sweep? Repeat its command, or give its directory with sweep.dir=DIR")
    commands: list[tuple[SweepDirectory, Sequence[str]]] = []
    for file in sorted(Path(OUTPUTS).glob("*/*/sweep.json"), reverse=True):
        sweep = SweepDirectory(file.parent)
        try:
            commands.append((sweep, sweep.info.command))
        except UserError as error:
            print(f"Ignored: {error}", file=sys.stderr)
    lines, keys = {o.input_line for o in own}, {o.key_or_group for o in own}
    matches: tuple[Callable[[Sequence[str]], bool], ...] = (
        lambda command: set(command) == lines,
        lambda command: {override.partition("=")[0] for override in command} == keys,
    )
    for matching in matches:
        for sweep, command in commands:
            if matching(command):
                return sweep
    raise UserError(
        f"sweep=resume: there is no sweep of {', '.join(o.key_or_group for o in own)} in {OUTPUTS}/: give its "
        "directory with sweep.dir=DIR, or start one without sweep="
    )
