"""Hydra is made as `compat.hydra` takes it to be."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from vae_runner.compat import hydra as compat
from vae_runner.schema import SEARCH, register_schemas
from vae_runner.sweeps.search import Search

APPLICATION = """
import sys
import hydra
from vae_runner.compat import hydra as compat

{before}

@hydra.main(config_path=None, version_base="1.3")
def main(config):
    print("ran", dict(config))

main()
"""


def application(before: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a small application of Hydra's, which does something before."""
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    file = folder / "application.py"
    file.write_text(APPLICATION.format(before=before))
    return subprocess.run(
        [sys.executable, file, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_errors_are_raised(tmp_path: Path) -> None:
    assert "Traceback" not in application("", "no_such_key=1", folder=tmp_path).stderr, "Hydra raises by itself"
    raised = application("compat.raise_errors()", "no_such_key=1", folder=tmp_path)
    assert "Traceback" in raised.stderr
    assert "ConfigCompositionException" in raised.stderr


@pytest.mark.parametrize("template", ["only text", "with $APP_CONFIG_GROUPS"])
def test_groups_are_listed_where_the_help_has_a_place_for_them(tmp_path: Path, template: str) -> None:
    before = """
from hydra._internal.hydra import Hydra
original = Hydra.format_config_groups
def format_config_groups(*arguments, **named):
    print("LISTED")
    return original(*arguments, **named)
Hydra.format_config_groups = format_config_groups
"""
    words = f"hydra.help.template='{template}'"
    asked = application(before, "--help", words, folder=tmp_path)
    assert "LISTED" in asked.stdout, f"Hydra does so by itself: {asked.stderr}"
    ours = application(f"{before}\ncompat.list_groups_on_demand()", "--help", words, folder=tmp_path)
    assert ("LISTED" in ours.stdout) is ("GROUPS" in template), ours.stderr
    assert template.partition("$")[0] in ours.stdout


@pytest.mark.parametrize("batches", [(), ("hydra.sweeper.max_batch_size=1",)])
def test_a_sweep_does_the_runs_that_are_chosen_of_all_with_what_the_choice_needs(
    batches: tuple[str, ...], tmp_path: Path
) -> None:
    before = """
from hydra.core.plugins import Plugins
def choose(sweeper, runs):
    composed = sweeper.hydra_context.config_loader.load_sweep_config(sweeper.config, runs[0])
    print("CHOSEN OF", runs, composed.a)
    return runs[1:]
Plugins.instance()
compat.choose_runs_with(choose)
"""
    ended = application(before, "-m", "+a=1,2,3", "hydra.sweep.dir=.", *batches, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert re.findall(r"CHOSEN OF (.*)", ended.stdout) == ["[['+a=1'], ['+a=2'], ['+a=3']] 1"]
    assert re.findall(r"ran (.*)", ended.stdout) == ["{'a': 2}", "{'a': 3}"]


def test_the_parser_has_hydras_options() -> None:
    given = compat.arguments_parser().parse_args(["-m", "a=1", "--cfg", "job"])
    assert (given.multirun, given.overrides, given.cfg) == (True, ["a=1"], "job")
    assert {"help", "hydra_help", "info", "shell_completion"} <= set(vars(given))


def test_what_failed_has_the_locals_that_messages_are_made_of(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("defaults:\n  - part: none\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.yaml").write_text("")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        with pytest.raises(MissingConfigException) as missing:
            compose("config")
        with pytest.raises(UnicodeDecodeError) as unreadable:
            compose("latin")
    assert compat.local_variable(missing.value, "repo").get_group_options("part") == ["one"]
    assert compat.local_variable(unreadable.value, "full_path") == str(tmp_path / "latin.yaml")
    assert compat.local_variable(missing.value, "no_such_name") is None


@pytest.fixture
def store() -> Iterator[dict[str, Any]]:
    Plugins.instance()
    stored = ConfigStore.instance().repo["hydra"].setdefault("launcher", {})
    before = dict(stored)
    yield stored
    stored.clear()
    stored.update(before)


def test_a_plugins_preset_gets_another_name(store: dict[str, Any]) -> None:
    ConfigStore.instance().store(group="hydra/launcher", name="toy", node={"a": 1}, provider="plugin")
    preset = store["toy.yaml"]
    compat.rename_plugin_presets([("launcher", "toy"), ("launcher", "not_there"), ("no_kind", "toy")], "_plugin")
    assert "toy.yaml" not in store
    assert store["toy_plugin.yaml"] is preset


def test_a_completion_reads_the_main_configuration_once_and_offers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def offered() -> tuple[list[str], int]:
        with initialize_config_module("vae_runner.conf", version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            reads.clear()
            return BashCompletion(loader)._query("config", "mod"), len(reads)

    reads: list[object] = []
    read = ConfigLoaderImpl._process_config_searchpath
    monkeypatch.setattr(
        ConfigLoaderImpl, "_process_config_searchpath", lambda *given: (reads.append(given), read(*given))[1]
    )
    name = "_parse_overrides_and_create_caching_repo"
    monkeypatch.setattr(ConfigLoaderImpl, name, getattr(ConfigLoaderImpl, name))  # to be put back
    register_schemas()
    before, many = offered()
    compat.list_groups_quickly()
    after, once = offered()
    assert (after, once) == (before, 1)
    assert "model=" in after
    assert many > 1


def test_a_sweeper_of_ours_is_made_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", {**Plugins.instance().class_name_to_class})
    compat.register_sweeper(SEARCH, Search)
    assert type(Plugins.instance()._instantiate(OmegaConf.create({"_target_": SEARCH, "n_trials": 3}))) is Search


def test_what_is_replaced_takes_the_same_arguments() -> None:
    from inspect import signature

    def check(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None: ...

    assert len(signature(Sweeper.validate_batch_is_legal).parameters) == len(signature(check).parameters)
    assert list(signature(compat._hydras_get_help).parameters) == ["self", "help_cfg", "cfg", "args_parser", "resolve"]
    assert list(signature(Hydra.format_config_groups).parameters) == ["self", "predicate", "compact"]
