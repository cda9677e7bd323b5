"""Names of a sweep's runs, by what they compute, so that the same command finds them again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from vae_runner.config.composition import content_of
from vae_runner.config.fingerprint import computed_settings, fingerprint, not_computed
from vae_runner.sweeps.directory import SweepDirectory

NAME_CHARACTERS = 60


def register_resolver() -> None:
    """Give Hydra `${run_name:}`, a run's folder in its sweep, and `${run_prefix:}`, the start of its messages."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("run_prefix", _run_prefix, replace=True)


def _run_name(*, _root_: DictConfig) -> str:
    content = content_of(_root_)
    own = fingerprint(content)
    folder = Path(_root_.hydra.sweep.dir)
    known = _known(folder, SweepDirectory(folder).version)
    searched = _root_.hydra.sweeper.get("params") or {}
    keys = dict.fromkeys([*known.keys, *map(str, searched)])
    chosen = _root_.hydra.runtime.choices
    settings = {key: chosen[key] if key in chosen else OmegaConf.select(_root_, key) for key in keys}
    # Runs that differ only in what is not computed are one run, in one folder, whichever process names it.
    computed = computed_settings(settings, (*not_computed(content), "hardware"))
    return known.folders.get(own) or "-".join([*_readable(computed.items()), own])


class _Known(NamedTuple):
    """What the names of a sweep's runs are made of, beside their settings."""

    keys: Sequence[str]  # that the sweep varies
    folders: Mapping[str, str]  # of the runs that there were before, by their identities


@lru_cache(maxsize=1)
def _known(folder: Path, version: int) -> _Known:
    """Read a sweep's directory once a command, which changes `version`: its own runs get the names that we give them.

    To look for each run's folder anew would take a sweep of many runs longer than to launch them.
    """
    sweep = SweepDirectory(folder)
    return _Known(sweep.info.keys, sweep.folders)


def _run_prefix(*, _root_: DictConfig) -> str:
    return f"{fingerprint(content_of(_root_))}  " if _root_.hydra.mode == RunMode.MULTIRUN else ""


def _readable(settings: Iterable[tuple[str, object]]) -> list[str]:
    """Return settings as part of a folder's name, ["latent_8-seed_1"], or [] where there are none."""
    words = [f"{key.rpartition('.')[2]}_{_word(value)}" for key, value in settings if not isinstance(value, DictConfig)]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words))[:NAME_CHARACTERS]
    return [name] if name else []


def _word(value: object) -> str:
    if isinstance(value, ListConfig):
        return "_".join(map(_word, value))
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
