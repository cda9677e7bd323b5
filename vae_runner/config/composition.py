"""The configuration of one run, from what Hydra composes for a command."""

import os

from omegaconf import DictConfig, OmegaConf

COMMAND_KEYS = ("resume", "trust", "sweep")  # what a command is to do, and no part of the run that it does
FOLDER_KEYS = ("data_dir", "dataset.data_dir", "dataset.root")


def of_the_run(config: DictConfig) -> DictConfig:
    """Return a copy of the configuration without what only this command is told, its interpolations resolved.

    Only the configuration as a whole knows what they mean: they may name a key that is left out here, and a part that
    is taken out of its tree would look them up in itself. Folders are absolute, so that they are found from anywhere.
    """
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    OmegaConf.resolve(own)
    for path in FOLDER_KEYS:
        if isinstance(folder := OmegaConf.select(own, path), str) and folder:
            OmegaConf.update(own, path, _absolute(folder))
    return OmegaConf.masked_copy(own, [str(name) for name in own if name not in COMMAND_KEYS])


def _absolute(folder: str) -> str:
    """Return the folder as it is called from anywhere; as it is, what has no home to begin with, or is an address."""
    folder = os.path.expanduser(folder)  # noqa: PTH111 (Path raises where there is no home, and collapses the // of ://)
    return folder if folder.startswith("~") or "://" in folder else os.path.abspath(folder)  # noqa: PTH100 (keeps links)


def without_output(config: DictConfig) -> DictConfig:
    """The configuration for a machine that takes part in a run of which another one writes."""
    changed = config.copy()
    changed.figures.every, changed.figures.periodic, changed.figures.final = 0, {}, {}
    changed.checkpoint.every, changed.checkpoint.every_minutes, changed.checkpoint.metric = 0, 0, None
    return changed
