"""`vae-run resume=RUN`: from its command line to one that Hydra understands."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vae_runner.config import refusals
from vae_runner.config.choices import parsed
from vae_runner.config.composition import COMMAND_KEYS
from vae_runner.config.keys import PRESETS
from vae_runner.errors import UserError, did_you_mean
from vae_runner.schema import CommandConfig
from vae_runner.storage.resume import MAY_CHANGE, may_change
from vae_runner.storage.stored_run import StoredRun
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
    run = stored_run(
        given[-1], arguments, "continues one run; to continue a sweep, repeat its command with sweep=resume",
        "repeat its command with sweep.dir={}, or resume a run in it",
    )  # fmt: skip
    path = run.path
    others = [argument for argument in arguments if argument not in given]
    for override in overrides_in(others):
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
    return [*for_hydra(others), f"resume={quoted}", f"hydra.run.dir={quoted}"]


def stored_run(argument: str, arguments: Sequence[str], purpose: str, of_a_sweep: str) -> StoredRun:
    """Return the run that `resume=RUN` or `rerun=RUN` among the arguments of a command names.

    Raises:
        UserError: there is none, or the command asks for what does not go with that: `purpose` says what it is for,
            and `of_a_sweep` what to do with a sweep's directory.
    """
    key, _, value = argument.partition("=")
    if value[:1] in ("'", '"') and (read := parsed([argument])):
        value = str(read[0].value())
    value = os.path.expanduser(value)  # noqa: PTH111 (Path raises where there is no home)
    if not value or value == "null":
        raise UserError(f"{key}= is empty: give a run directory, like {key}=outputs/2026-01-31/12-00-00")
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(f"{key}= {purpose}")
    if SweepDirectory(Path(value)).exists:
        raise UserError(f"{value} is a sweep's directory: {of_a_sweep.format(value)}")
    run = StoredRun.open(Path(value))
    if any(re.match(r"(--cfg|-c)\b", argument) for argument in arguments):
        kind = "resumed" if key == "resume" else "repeated"
        raise UserError(f"the configuration of a {kind} run is in it: look at {run.path}/config.yaml")
    return run


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """Return arguments so that Hydra takes them, which composes a configuration of another dataset than the run's."""
    return [f"++{argument}" if argument.startswith("dataset.") else argument for argument in arguments]


def overrides_in(arguments: Sequence[str]) -> list[Override]:
    """Return the overrides among arguments of a command; refuse what cannot be read."""
    words = [a for a in arguments if "=" in a.lstrip("-") or a.startswith("~")]
    try:
        return OverridesParser.create().parse_overrides([a for a in words if not a.startswith("-")])
    except (HydraException, ValueError) as error:
        raise UserError(refusals.explain(error)) from error
