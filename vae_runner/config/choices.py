"""What is chosen in the groups of `conf/`: one YAML file a group, by whose name a part is known."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

import vae_runner.conf
from vae_runner.errors import UserError
from vae_runner.files.untrusted import YAML_LOADER

CONF = Path(str(vae_runner.conf.__file__)).parent
GROUPS = {file.parent.name for file in CONF.glob("*/*.yaml")}
OPTIONAL = "experiment"  # the group in which nothing has to be chosen


def own_yaml() -> Iterator[tuple[Path, Any]]:
    """The YAML files of this package, with their contents."""
    for file in CONF.rglob("*.yaml"):
        yield file, yaml.load(file.read_text(encoding="utf-8"), Loader=YAML_LOADER)


@functools.cache
def _own_names() -> dict[str, str]:
    """The choices of this package that name something to build, by its `_target_`."""
    contents = ((file, content.get(file.parent.name, content)) for file, content in own_yaml())
    return {content["_target_"]: file.stem for file, content in contents if "_target_" in content}


def part_name(part: str, target: Any, chosen: Mapping[str, str]) -> str:
    """Return what a run's part is called: as it was chosen, where the run tells; else one of ours, or its target."""
    return chosen.get(part) or _own_names().get(str(target)) or str(target)


def chosen_in(hydra: Any) -> dict[str, str]:
    """Return what was chosen in each group, but for Hydra's own, and for a part whose `_target_` was given besides."""
    given = {override.key_or_group for override in parsed(hydra.overrides.task)}
    return {
        str(group): choice
        for group, choice in hydra.runtime.choices.items()
        if isinstance(choice, str) and not str(group).startswith("hydra/") and f"{group}._target_" not in given
    }


def parsed(arguments: Iterable[str]) -> list[Override]:
    """Return the overrides among `arguments` that can be read; Hydra tells of the others."""
    read = []
    for word in arguments:
        if not word.startswith("-"):
            with suppress(HydraException):
                read.append(OverridesParser.create().parse_override(word))
    return read


def without_nothing(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without `experiment=null`, which is how it is anyway, and which Hydra does not take."""
    return [override for override in overrides if override != f"{OPTIONAL}=null"]


def check_choices(overrides: Iterable[str]) -> None:
    """Refuse what Hydra would make something else of: several choices where one is meant, of which the last wins.

    Raises:
        UserError: a list, or nothing, is chosen in a group, or a group is chosen twice.
    """
    before: dict[str, str | None] = {}
    for override in parsed(overrides):
        group, value = override.key_or_group, override.value()
        if group not in GROUPS and not group.startswith("hydra/"):
            continue
        if before.setdefault(group, override.input_line) != override.input_line:
            raise UserError(
                f"{before[group]} and {override.input_line}: one {group} is chosen; leave one of them out, or give "
                f"both to a sweep: -m {group}=…,…"
            )
        for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
            if isinstance(choice, list):
                several = ",".join(map(str, choice))
                is_of_runs = len(choice) > 1 and group != "sweep" and not group.startswith("hydra/")
                advice = f"a run with each is -m {group}={several}" if is_of_runs else f"write {group}=NAME"
                raise UserError(f"{group}=[{several}]: one {group} is chosen, and no list; {advice}")
            if choice is None and not override.is_delete():
                advice = "" if group == OPTIONAL else "give the name of one, or "
                raise UserError(f"{group}=null: {group} is chosen by a name; {advice}leave it out")
