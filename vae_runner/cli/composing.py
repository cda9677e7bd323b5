"""From overrides, as a command line has them, to a configuration, without a command: for `vae-evaluate`, and Python."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_runner.config import refusals
from vae_runner.config.choices import check_choices
from vae_runner.errors import UserError
from vae_runner.schema import register_schemas

NO_SWEEP = "only vae-run -m does that"  # for what several values are given to


def composed(overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Return what Hydra composes of `conf/` and overrides; `with_hydra`, its own configuration too.

    Raises:
        UserError: an override cannot be read, or there is no such key or choice.
    """
    register_schemas()
    check_choices(overrides)
    try:
        with _callers_hydra_put_aside(), initialize_config_module("vae_runner.conf", version_base="1.3"):
            return compose("config", list(overrides), return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(refusals.explain(error, NO_SWEEP)) from error


@contextmanager
def _callers_hydra_put_aside() -> Iterator[None]:
    """Let Hydra be used inside also where a program of the user's is itself a Hydra application."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def as_hydra_reads(argument: str) -> str:
    """Return `key=value` with the home in place of a `~` that the shell leaves there, and with quotes if it needs them.

    Without quotes, Hydra reads only some of ASCII. What has syntax of its own, lists and sweeps, is left as it is.
    """
    name, equals, value = argument.partition("=")
    if not equals or name.startswith("-"):
        return argument
    if re.match(r"~[\w.-]*(/|$)", value):
        value = os.path.expanduser(value)  # noqa: PTH111 (Path would drop a trailing slash or a `.`)
        if value.startswith("~"):
            raise UserError(f"{argument}: there is no home that ~ could stand for: give the whole path")
    if re.search(r"[^ -~]|[=~!#<>&;^`]", value) and not re.search(r"""['"\[\]{}(),$\\]""", value):
        value = f"'{value}'"
    return f"{name}={value}"


def check_is_no_sweep(overrides: Sequence[str], advice: str = "add -m") -> None:
    """Refuse what only a sweep takes: without -m it would begin a run that nobody has asked for."""
    for override in overrides:
        if re.match(r"\+{0,2}((hydra\.)?sweep(\.\w+)?=|hydra[./](launcher|sweeper)\b)", override):
            raise UserError(f"{override} is for a sweep: {advice}")
