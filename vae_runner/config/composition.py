"""The configuration of one run, from what Hydra composes for a command."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vae_runner.config.choices import chosen_in, parsed
from vae_runner.config.keys import Content

COMMAND_KEYS = ("resume", "trust", "sweep")  # what a command is to do, and no part of the run that it does
FOLDER_KEYS = ("data_dir", "dataset.data_dir", "dataset.root", "init_from")
CLASSIFIER, RANDOM = "classifier", "random"  # networks in whose features images are compared, and that no file has
FILE_KEYS = {  # with the words that are no files
    "loss.perceptual_model": (CLASSIFIER,),
    "dataset.factors": (),
    "evaluation.samples.features": (CLASSIFIER, RANDOM),
}


def of_the_run(config: DictConfig) -> DictConfig:
    """Return a copy of the configuration without the keys of the command, its interpolations resolved.

    Only the complete configuration knows what they mean: they may name a key that is left out here, and a part that
    is taken out of its tree would look them up in itself. Paths are absolute, so that they are found from anywhere.
    """
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    OmegaConf.resolve(own)
    for path in (*FOLDER_KEYS, *FILE_KEYS):
        value = OmegaConf.select(own, path)
        if isinstance(value, str) and value and value not in FILE_KEYS.get(path, ()):
            OmegaConf.update(own, path, _absolute(value))
    return OmegaConf.masked_copy(own, [str(name) for name in own if name not in COMMAND_KEYS])


def content_of(config: DictConfig) -> Content:
    """Return the configuration of the run in plain dictionaries, as config.yaml has it."""
    content = OmegaConf.to_container(of_the_run(config))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _absolute(path: str) -> str:
    """Return the path as it is called from anywhere; as it is, what has no home to begin with, or is an address."""
    path = os.path.expanduser(path)  # noqa: PTH111 (Path raises where there is no home, and collapses the // of ://)
    return path if path.startswith("~") or "://" in path else os.path.abspath(path)  # noqa: PTH100 (keeps links)


@dataclass(frozen=True)
class HydraJob:
    """What Hydra says of the job that a run is: where it belongs, and which command asked for it."""

    directory: Path
    in_sweep: bool
    choices: dict[str, str]  # by group
    config: object  # Hydra's own
    overrides: Sequence[str]
    given: Sequence[str] = ()  # the keys and groups among them that are the run's
    command: Sequence[str] = ()  # the arguments of `vae-run`
    repeated: Path | None = None  # the run that this one is to repeat

    @classmethod
    def of(cls, hydra: HydraConf, command: Sequence[str] = ()) -> Self:
        """Return what Hydra's own configuration says, and the command that it comes from."""
        overrides = list(hydra.overrides.task)
        return cls(
            Path(hydra.runtime.output_dir),
            hydra.mode == RunMode.MULTIRUN,
            chosen_in(hydra),
            OmegaConf.to_container(hydra),
            overrides,
            keys_given(overrides),
            command,
        )


def keys_given(overrides: Sequence[str]) -> list[str]:
    """Return the keys and groups of a run that overrides give, each once."""
    names = dict.fromkeys(override.key_or_group for override in parsed(overrides))
    return [name for name in names if name.partition(".")[0] not in COMMAND_KEYS]
