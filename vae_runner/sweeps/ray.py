"""What a sweep on a Ray cluster needs beside Hydra's launcher: an address that answers, and signals that are ours."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vae_runner.compat.ray import address, after_init
from vae_runner.errors import Interrupted
from vae_runner.runtime.cluster import answers
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import install_launcher_handlers

SECONDS_TO_ANSWER = 10
SECONDS_TO_JOIN = 45  # a cluster that exists; what else answers is asked again by Ray, without an end


class JoinCluster(Callback):
    """Before a sweep: refuse a cluster that cannot be reached, and see that SIGTERM ends it in checkpoints."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Install our handlers again when Ray has begun, whose own would end the cluster."""
        sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        cluster = _host(address(config.hydra.launcher.ray.init.get("address")))
        if cluster and not answers(cluster, SECONDS_TO_ANSWER):
            _refuse(sweep, cluster)
            raise Interrupted(signal.SIGTERM)  # Hydra would let any error of a callback pass

        def give_up() -> None:
            _refuse(sweep, str(cluster))
            os.killpg(0, signal.SIGKILL)  # Ray's own code, in which the main thread waits, lets no signal through

        waiting = threading.Timer(SECONDS_TO_JOIN, give_up)
        waiting.daemon = True
        if cluster and not _is_of_client(config):  # which has an end of its own
            waiting.start()

        def joined() -> None:
            waiting.cancel()
            install_launcher_handlers(sweep)

        after_init(joined)


def _refuse(sweep: SweepDirectory, cluster: str) -> None:
    sweep.request_stop(
        signal.SIGTERM,
        f"hydra.launcher.ray.init.address: no Ray cluster answers at {cluster}: start one there with "
        "`ray start --head`, or leave the address out for one on this machine",
    )


def _is_of_client(config: DictConfig) -> bool:
    return str(config.hydra.launcher.ray.init.get("address")).startswith("ray://")


def _host(given: str | None) -> str | None:
    """Return the `host:port` that Ray will connect to; None where it will begin a cluster, or refuse what is given."""
    return None if given in (None, "local") else str(given).rpartition("://")[2].partition("/")[0]
