"""What a run of a sweep is called: by what it computes, so that the same command finds it again."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from vae_runner.config.configuration import of_the_run
from vae_runner.sweeps.directory import ID_CHARACTERS, SweepDirectory

NAME_CHARACTERS = 60
# What changes where a run's files are, what it looks like, or how long it takes, but not what it computes.
NOT_COMPUTED = ("data_dir", "dataset.data_dir", "checkpoint", "figures")
COMPUTED_BY_HARDWARE = ("precision", "sync_batch_norm")


def identity(config: DictConfig) -> str:
    """A short name of what a configuration computes: equal for equal computations, whatever the command looked like."""
    content: Any = OmegaConf.to_container(of_the_run(config), throw_on_missing=False)
    content["hardware"] = [content["hardware"].get(name) for name in COMPUTED_BY_HARDWARE]
    for name in NOT_COMPUTED:
        parent, _, last = name.rpartition(".")
        (content[parent] if parent else content).pop(last, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:ID_CHARACTERS]


def register_resolver() -> None:
    """Give Hydra `${run_name:}`, the folder of a run in a sweep, and `${run_prefix:}`, the start of its messages."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("run_prefix", _run_prefix, replace=True)


def _run_name(*, _root_: DictConfig) -> str:
    own = identity(_root_)
    sweep = SweepDirectory(Path(_root_.hydra.sweep.dir))
    searched = _root_.hydra.sweeper.get("params") or {}
    keys = dict.fromkeys([*sweep.keys, *map(str, searched)])
    chosen = _root_.hydra.runtime.choices
    settings = [(key, chosen[key] if key in chosen else OmegaConf.select(_root_, key)) for key in keys]
    return sweep.folder_of(own) or "-".join([*_readable(settings), own])


def _run_prefix(*, _root_: DictConfig) -> str:
    return f"{identity(_root_)}  " if _root_.hydra.mode == RunMode.MULTIRUN else ""


def _readable(settings: Iterable[tuple[str, Any]]) -> list[str]:
    """What the sweep varies, as far as a folder's name takes it: ["latent_8-seed_1"]."""
    words = [f"{key.rpartition('.')[2]}_{_word(value)}" for key, value in settings if not isinstance(value, DictConfig)]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words))[:NAME_CHARACTERS]
    return [name] if name else []


def _word(value: Any) -> str:
    if isinstance(value, ListConfig):
        return "_".join(map(_word, value))
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
