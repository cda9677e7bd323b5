"""Hydra 1.3: its help, its completion, its check of a sweep, its errors, its command line, the presets of its plugins.

All of this is how Hydra 1.3.x is made, which its plugins rely on too; there are no public ways.
"""

import importlib
import itertools
import os
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

ChooseRuns = Callable[[Sweeper, list[list[str]]], list[list[str]]]

_hydras_get_help = Hydra.get_help


def raise_errors() -> None:
    """Have Hydra raise what goes wrong: else it writes of it in its own way, and ends the process."""
    os.environ["HYDRA_FULL_ERROR"] = "1"


def list_groups_on_demand() -> None:
    """Let `--help` do without the listing of all config groups where its text has no place for it: that takes long."""
    Hydra.get_help = _get_help  # type: ignore[method-assign]


def list_groups_quickly() -> None:
    """Let a completion read the main configuration once: Hydra reads it anew for every group that it looks into."""
    read = ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    done: dict[tuple[str | None, ...], Any] = {}

    def read_once(self: ConfigLoaderImpl, config_name: str | None, overrides: list[str]) -> Any:
        key = (config_name, *overrides)
        if key not in done:
            done[key] = read(self, config_name, overrides)
        return done[key]

    ConfigLoaderImpl._parse_overrides_and_create_caching_repo = read_once  # type: ignore[method-assign]


def complete_nested_choices() -> None:
    """Let a completion offer `experiment=reproduce/…` too: Hydra's knows only the files of a group's own folder."""
    own = CompletionPlugin._query_config_groups

    def query(self: CompletionPlugin, word: str, config_name: str | None, words: list[str]) -> tuple[list[str], bool]:
        matches, is_exact = own(self, word, config_name, words)
        prefix = word[:1] if word.startswith(("+", "~")) else ""
        group, equals, _ = word.removeprefix(prefix).partition("=")

        def options(of: str, kind: ObjectType) -> list[str]:
            return self.config_loader.get_group_options(of, kind, config_name=config_name, overrides=words)

        if equals:
            folders = options(group, ObjectType.GROUP)
            nested = [
                f"{prefix}{group}={f}/{name}" for f in folders for name in options(f"{group}/{f}", ObjectType.CONFIG)
            ]
            return [*matches, *(match for match in nested if match.startswith(word))], is_exact
        # Of a group with files and folders Hydra leaves open which is to follow.
        return [match if match[-1] in "=/" or match[0] == "~" else f"{match}=" for match in matches], is_exact

    CompletionPlugin._query_config_groups = query  # type: ignore[method-assign]


def _get_help(self: Hydra, help_cfg: DictConfig, cfg: DictConfig, args_parser: ArgumentParser, resolve: bool) -> str:
    if "_CONFIG_GROUPS" not in help_cfg.template:
        self.format_config_groups = lambda predicate, compact=True: ""  # type: ignore[method-assign]
    return _hydras_get_help(self, help_cfg, cfg, args_parser, resolve)


def choose_runs_with(choose: ChooseRuns) -> None:
    """Let a sweep do those of its runs that `choose` returns, which is called with all of them before the first.

    It replaces Hydra's check that runs can be composed, which keeps nothing of what it composes. Of the sweeper,
    `config` and `hydra_context` are set then. It is to be called after `Plugins.instance()`, which loads the sweeper's
    module anew.
    """
    basic_sweeper = importlib.import_module("hydra._internal.core_plugins.basic_sweeper")

    def validate(sweeper: BasicSweeper, batch: list[list[str]]) -> None:
        if sweeper.batch_index > 1:
            return
        assert sweeper.overrides is not None
        runs = [list(overrides) for overrides in itertools.chain(*sweeper.overrides)]
        batches = list(sweeper.split_overrides_to_chunks(choose(sweeper, runs), sweeper.max_batch_size))
        sweeper.overrides, batch[:] = batches, batches[0]

    basic_sweeper.BasicSweeper.validate_batch_is_legal = validate


def register_sweeper(name: str, sweeper: type[Sweeper]) -> None:
    """Let a configuration name a sweeper of ours as `_target_`.

    Hydra takes only classes that it has found itself, in the package `hydra_plugins`; a module of ours there would not
    be found in an editable installation, and every command would import it.
    """
    assert Plugins.is_in_toplevel_plugins_module(name), name
    Plugins.instance().class_name_to_class[name] = sweeper


def arguments_parser() -> ArgumentParser:
    """Return the parser of Hydra's options, to know what Hydra will make of them."""
    return get_args_parser()


def local_variable(error: BaseException, name: str) -> Any:
    """Return a local variable of the function that failed, which Hydra's exceptions do not carry; or None.

    `full_path`: the file that was read; `repo`: the ConfigRepository that was asked.
    """
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((variables[name] for variables in reversed(frames) if name in variables), None)


def rename_plugin_presets(names: Sequence[tuple[str, str]], suffix: str) -> None:
    """Give presets of Hydra's plugins, of `(kind, name)`, other names: ours of the same names are built on them.

    A plugin stores its preset in the ConfigStore, which is asked before files are, and from which nothing can be taken.
    """
    Plugins.instance()  # stores them
    for kind, name in names:
        stored: dict[str, object] = ConfigStore.instance().repo.get("hydra", {}).get(kind, {})
        if preset := stored.pop(f"{name}.yaml", None):
            stored[f"{name}{suffix}.yaml"] = preset
