"""`vae-run resume=RUN`: from its command line to one that Hydra understands."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vae_runner.config import refusals
from vae_runner.config.choices import PRESETS
from vae_runner.config.composition import COMMAND_KEYS
from vae_runner.errors import UserError, did_you_mean
from vae_runner.schema import CommandConfig
from vae_runner.storage.resume import MAY_CHANGE, may_change
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory

KNOWN = (*PRESETS, "hydra", *(field.name for field in dataclasses.fields(CommandConfig)))


def rewritten(arguments: Sequence[str]) -> list[str]:
    """Return the command line of `vae-run`; with `resume=RUN` among the overrides, one that has Hydra run in RUN.

    Raises:
        UserError: RUN is no run directory, or an override would change what the run has done already.
    """
    given = [argument for argument in arguments if argument.startswith("resume=")]
    if not given:
        return list(arguments)
    value = given[-1].removeprefix("resume=").strip("'\"")
    if not value or value == "null":
        raise UserError("resume= is empty: give a run directory, like resume=outputs/2026-01-31/12-00-00")
    if {"-m", "--multirun"} & set(arguments):
        raise UserError("resume= continues one run; to continue a sweep, repeat its command with sweep=resume")
    if SweepDirectory(Path(value)).exists:
        raise UserError(
            f"{value} is a sweep's directory: repeat its command with sweep.dir={value}, or resume a run in it"
        )
    path = RunDirectory.open(Path(value)).path
    if any(re.match(r"(--cfg|-c)\b", argument) for argument in arguments):
        raise UserError(f"the configuration of a resumed run is in it: look at {path}/config.yaml")
    others = [argument for argument in arguments if argument not in given]
    for override in _overrides(others):
        name = override.key_or_group
        first = name.partition(".")[0]
        if first == "hydra" and name.startswith(("hydra.run", "hydra.sweep")):
            raise UserError(f"{override.input_line}: a resumed run stays in its directory; leave it out")
        if first not in KNOWN:
            raise UserError(
                f"there is no key '{first}'.{did_you_mean(first, MAY_CHANGE)} vae-run --cfg job lists all keys."
            )
        if not may_change(name) and first not in (*COMMAND_KEYS, "hydra"):
            raise UserError(
                f"{override.input_line} would change what {path} has done already: leave it out, or start a new run; "
                f"a resumed run takes other {', '.join(MAY_CHANGE)}"
            )
    quoted = refusals.quoted(path)
    # The configuration that Hydra composes is of another dataset, which may not have that key.
    others = [f"++{argument}" if argument.startswith("dataset.") else argument for argument in others]
    return [*others, f"resume={quoted}", f"hydra.run.dir={quoted}"]


def _overrides(arguments: Sequence[str]) -> list[Override]:
    words = [a for a in arguments if "=" in a.lstrip("-") or a.startswith("~")]
    try:
        return OverridesParser.create().parse_overrides([a for a in words if not a.startswith("-")])
    except (HydraException, ValueError) as error:
        raise UserError(refusals.explain(error)) from error
