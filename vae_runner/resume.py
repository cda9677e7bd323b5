"""`vae-run resume=RUN`: the stored configuration of a run, what may be changed in it, and what of it is trusted.

A run directory may come from anyone, so its configuration is data: it may name this package's own parts, and modules
that the user names on the command line.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner import refusals
from vae_runner.choices import own_yaml
from vae_runner.config import COMMAND_KEYS, PARTS, SCHEMAS, Config, leaves
from vae_runner.errors import DAMAGED, UserError, did_you_mean
from vae_runner.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory

# What does not change what a run has done already.
MAY_CHANGE = (
    *("epochs", "early_stopping", "checkpoint", "figures", "hardware"),
    *("data_dir", "dataset.data_dir", "dataset.root", "dataset.url"),  # where the images are; they are known again
)
KNOWN = ("experiment", "hydra", *(field.name for field in dataclasses.fields(Config)))


def rewritten(arguments: Sequence[str]) -> list[str]:
    """The command line of `vae-run`; with `resume=RUN` among the overrides, Hydra is told to run in RUN.

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
        raise UserError("resume= goes on with one run; to go on with a sweep, repeat its command with sweep=resume")
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
        if not _may_change(name) and first not in (*COMMAND_KEYS, "hydra"):
            raise UserError(
                f"{override.input_line} would change what {path} has done already: leave it out, or start a new run; "
                f"a resumed run takes other {', '.join(MAY_CHANGE)}"
            )
    quoted = refusals.quoted(path)
    # The configuration that Hydra composes is of another dataset, which may not have that key.
    others = [f"++{argument}" if argument.startswith("dataset.") else argument for argument in others]
    return [*others, f"resume={quoted}", f"hydra.run.dir={quoted}"]


def _may_change(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def configuration(path: Path, asked: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The stored configuration of the run at `path`, with `overrides` taken from the composed configuration `asked`.

    Raises:
        UserError: it is no configuration of ours, or names code that is not trusted.
    """
    stored = RunDirectory.open(path).config
    content = OmegaConf.to_container(stored, resolve=False)
    check_targets(content, asked.trust, f"{path}/config.yaml")
    try:
        config = DictConfig(OmegaConf.structured(Config))
        config.merge_with(stored)
        _give_types(config, path)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}/config.yaml: {str(error).splitlines()[0]}: {DAMAGED}") from error
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        try:
            _apply(config, asked, override)
        except OmegaConfBaseException as error:
            raise UserError(f"{override.key_or_group}: {str(error).splitlines()[0]}") from error
    info = RunDirectory(path).info
    done = info.get("epoch", 0)
    draws = OmegaConf.to_container(config.figures) != OmegaConf.to_container(stored.figures)
    if config.epochs < done or (config.epochs == done and info.get("status") == "finished" and not draws):
        with RunDirectory(path) as directory:
            # Refuses one in use, which has not come to its end. Not before: machines that go on together all come here.
            directory.hold()
        raise UserError(
            f"{path} has done epoch {done} already: to go on, give epochs= more than {done}, or other figures to draw"
        )
    return config


def _give_types(config: DictConfig, path: Path) -> None:
    """Let the schemas say what the keys of our own parts may be, as they do where Hydra composes a configuration."""
    schemas: dict[str, type] = {}
    for _, file in own_yaml():
        names = re.findall(r"/schema/(\w+/\w+)@", str(file.get("defaults")))
        targets = [value for key, value in leaves(file) if key.split(".")[-1] == "_target_"]
        schemas |= {target: SCHEMAS[name] for name, target in zip(names, targets, strict=False)}
    for part in PARTS:
        node = config[part]
        if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
            raise UserError(f"{path}/config.yaml: {part} has no _target_: {DAMAGED}")
        if node._target_ in schemas:
            config[part] = OmegaConf.merge(OmegaConf.structured(schemas[node._target_]), node)


def _apply(config: DictConfig, asked: DictConfig, override: Override) -> None:
    name = override.key_or_group
    if not _may_change(name):
        return
    parent, _, last = name.rpartition(".")
    if override.is_delete():
        (OmegaConf.select(config, parent) if parent else config).pop(last, None)
        return
    if name == "data_dir" and OmegaConf.select(config, "dataset.data_dir") == config.data_dir:
        config.dataset.data_dir = asked.data_dir
    # As it was given: what is to be looked up is looked up in the run's own configuration.
    given = (OmegaConf.select(asked, parent) if parent else asked)._get_node(last)
    OmegaConf.update(config, name, given, merge=False, force_add=True)


def check_targets(content: Any, trust: Sequence[str], where: str) -> None:
    """Refuse a stored configuration that names code other than this package's parts and the modules in `trust`."""
    ours = {value for _, file in own_yaml() for key, value in leaves(file) if key.split(".")[-1] == "_target_"}
    for key, value in leaves(content):
        if key.split(".")[-1] != "_target_" or value in ours:
            continue
        if not any(str(value).startswith(f"{module}.") for module in trust):
            module = str(value).rpartition(".")[0]
            raise UserError(
                f"{where}: {key} is {value}, which is no part of vae-runner: if you trust that code, add "
                f"trust=[{module}]"
            )


def check_same_past(config: DictConfig, past: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on from a checkpoint that another configuration has led to."""
    now, then = (dict(leaves(part)) for part in (OmegaConf.to_container(config, resolve=True), past))
    for key in sorted(now.keys() | then.keys()):
        if not _may_change(key) and now.get(key) != then.get(key):
            raise UserError(
                f"{path}/config.yaml has {key}={now.get(key)}, but its checkpoint was made with {key}={then.get(key)}: "
                "put that back"
            )


def _overrides(arguments: Sequence[str]) -> list[Override]:
    words = [a for a in arguments if "=" in a.lstrip("-") or a.startswith("~")]
    try:
        return OverridesParser.create().parse_overrides([a for a in words if not a.startswith("-")])
    except HydraException as error:
        raise UserError(refusals.explain(error)) from error
