"""What is chosen in the groups of `conf/`: one YAML file a group, by whose name a part is known."""

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

import vae_runner.conf
from vae_runner.config import registry
from vae_runner.config.keys import PRESETS, leaves
from vae_runner.errors import UserError

CONF = Path(str(vae_runner.conf.__file__)).parent
GROUPS = {file.parent.name for file in CONF.glob("*/*.yaml")}


def help_text() -> str:
    """Return the part of --help that names the choices of every group, and their most used keys."""
    fields = [field.name for field in dataclasses.fields(registry.root())]
    groups = [*(name for name in fields if name in GROUPS), *sorted(GROUPS.difference(fields))]
    return "\n".join(line for group in groups for line in _help_lines(group))


def _help_lines(group: str) -> Iterator[str]:
    components = registry.components(group)
    ranks = {component.name: rank for rank, component in enumerate(components)}
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    names += sorted(f"{folder.name}/…" for folder in (CONF / group).iterdir() if any(folder.glob("*.yaml")))
    indent = " " * 27
    ordered = " ".join(sorted(names, key=lambda name: ranks.get(name, len(names))))
    yield from textwrap.wrap(ordered, 120, initial_indent=f"  {group + '=':<25}", subsequent_indent=indent)
    shown = Counter(key for component in components for key in component.shown.split())
    shown.update(components[0].shown.split() if components else ())  # its keys are those of the group
    keys = [" ".join(f".{key}" for key in shown if shown[key] > 1)]
    for component in components:
        if own := [f".{key}" for key in component.shown.split() if shown[key] == 1]:
            keys.append(f"{component.name}: {' '.join(own)}")
    yield from textwrap.wrap("; ".join(filter(None, keys)), 120, initial_indent=indent, subsequent_indent=indent)


def part_name(part: str, target: object, chosen: Mapping[str, str]) -> str:
    """Return what a run's part is called: as it was chosen, where the run tells; else one of ours, or its target."""
    ours = registry.by_target(target)
    return chosen.get(part) or (ours.name if ours else str(target))


def named(content: object, chosen: Mapping[str, str], groups: Iterable[str]) -> dict[str, object]:
    """Return a configuration by its dotted keys, with a part's name in place of its `_target_`.

    The choices in `groups` that are no parts, like presets, are among them where the run tells of them.
    """
    settings: dict[str, object] = {group: chosen[group] for group in groups if group in chosen}
    for key, value in leaves(content, into_lists=False):
        part, _, last = key.rpartition(".")
        settings |= {part: part_name(part, value, chosen)} if last == "_target_" else {key: value}
    return settings


def chosen_in(hydra: HydraConf) -> dict[str, str]:
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
            with suppress(HydraException, ValueError):  # such as of a number with more digits than Python reads
                read.append(OverridesParser.create().parse_override(word))
    return read


def without_nothing(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without `method=null` and `experiment=null`: the defaults, which Hydra does not take."""
    return [override for override in overrides if override not in [f"{group}=null" for group in PRESETS]]


def check_choices(overrides: Iterable[str]) -> None:
    """Refuse a list, or nothing, chosen in a group, and a group chosen twice, of which Hydra would take the last."""
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
                raise UserError(f"{group}=null: {group} is chosen by a name; give the name of one, or leave it out")
