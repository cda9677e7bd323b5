"""What a run computes, as a short name."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae_runner.config.composition import of_the_run

ID_CHARACTERS = 8  # of a fingerprint, at the end of the name of a run's folder in a sweep
# What changes where a run's files are, what it looks like, or how long it takes, but not what it computes.
NOT_COMPUTED = ("data_dir", "dataset.data_dir", "checkpoint", "figures")
COMPUTED_BY_HARDWARE = ("precision", "sync_batch_norm")


def fingerprint(config: DictConfig) -> str:
    """Return a short name of what a configuration computes: equal for equal computations, however it was asked for."""
    content: Any = OmegaConf.to_container(of_the_run(config), throw_on_missing=False)
    content["hardware"] = [content["hardware"].get(name) for name in COMPUTED_BY_HARDWARE]
    for name in NOT_COMPUTED:
        parent, _, last = name.rpartition(".")
        (content[parent] if parent else content).pop(last, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:ID_CHARACTERS]
