"""Ctrl-C and SIGTERM in a process that has joined a Ray cluster."""

from pathlib import Path
from typing import Any

import ray._private.worker
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import listen


class KeepSignals(Callback):
    """Before a sweep: see that it ends in checkpoints on SIGTERM, which Ray answers by ending the cluster."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Listen again when Ray has begun, and with it has its own way with signals."""
        ray._private.worker._post_init_hooks.append(lambda: listen(SweepDirectory(Path(config.hydra.sweep.dir))))
