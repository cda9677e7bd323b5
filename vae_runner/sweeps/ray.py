"""What a sweep on a Ray cluster needs beside Hydra's launcher: an address that answers, and our signal handlers."""

import os
import signal
import threading
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vae_runner.compat.ray import address, after_init
from vae_runner.errors import Interrupted
from vae_runner.runtime.cluster import answers
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import install_launcher_handlers

SECONDS_TO_CONNECT = 10
SECONDS_TO_JOIN = 45  # Ray would wait without a limit where something else than a cluster answers.


class JoinCluster(Callback):
    """Before a sweep: refuse a cluster that cannot be reached, and have SIGTERM end the sweep in checkpoints."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Install our handlers again after `ray.init`, whose own would end the cluster."""
        sweep = SweepDirectory(Path(config.hydra.sweep.dir))
        given = config.hydra.launcher.ray.init.get("address")
        cluster = _host(address(given))
        if cluster and not answers(cluster, SECONDS_TO_CONNECT):
            _refuse(sweep, cluster)
            raise Interrupted(signal.SIGTERM)  # Hydra ignores any other exception of a callback.

        def give_up() -> None:
            _refuse(sweep, str(cluster))
            os.killpg(0, signal.SIGKILL)  # The main thread waits in Ray's code, which answers no signal.

        waiting = threading.Timer(SECONDS_TO_JOIN, give_up)
        waiting.daemon = True
        if cluster and not str(given).startswith("ray://"):  # Ray's client has a limit of its own.
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


def _host(given: str | None) -> str | None:
    """Return the `host:port` that Ray will connect to; None where it will start a cluster, or refuse what is given."""
    return None if given in (None, "local") else str(given).rpartition("://")[2].partition("/")[0]
