"""Which machines take part in a run, and which of them this one is."""

import errno
import json
import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from vae_runner.errors import UserError
from vae_runner.runtime.schema import HardwareConfig

log = logging.getLogger(__name__)

SECONDS_TO_START = 600  # for the other machines
SECONDS_BEFORE_WARNING = 5
SECONDS_BETWEEN_ATTEMPTS = 0.2
SECONDS_TO_CONNECT = 2
FIRST_PORT, PORTS = 10_000, 20_000  # under SLURM, which assigns none: below those that systems give to clients


@dataclass(frozen=True)
class Cluster:
    """The addresses `host:port` of the machines that train together, and this one's index among them."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Return whether this machine, the first, writes the run directory."""
        return self.index == 0

    def named_in(self, text: str) -> str | None:
        """Return the address of another machine that TensorFlow's error message `text` names, or None."""
        tasks = map(int, re.findall(r"/job:worker/replica:0/task:(\d+)", text))
        return next((self.workers[task] for task in tasks if task != self.index and task < len(self.workers)), None)


def find(config: HardwareConfig, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Return the cluster of a run, or None for a run on one machine.

    It is described by `hardware.workers` and `hardware.worker`; else by TF_CONFIG, as TensorFlow documents it; else by
    SLURM's variables.

    Raises:
        UserError: `hardware.distribution` is multi_worker, and no machines are given, or invalid ones.
    """
    if config.distribution != "multi_worker":
        return None
    if config.workers is not None:
        return _cluster(list(config.workers), config.worker, "hardware.workers", "hardware.worker")
    if "TF_CONFIG" in environment:
        return _from_tf_config(environment["TF_CONFIG"])
    if "SLURM_STEP_NODELIST" in environment:
        return _from_slurm(environment)
    raise UserError(
        "hardware=multi_worker: which machines? Give hardware.workers=[host:port,…] and hardware.worker=N on each, set "
        "TF_CONFIG, or start it with srun"
    )


def wait_for_all(cluster: Cluster) -> None:
    """Wait until every machine can be reached at its address.

    TensorFlow would wait without a limit, without naming the missing machines, and without answering signals.

    Raises:
        UserError: this machine cannot listen at its address, or another one did not start in time.
    """
    own = cluster.workers[cluster.index]
    start, warned = time.monotonic(), False
    with _listening(own):
        while missing := [address for address in cluster.workers if address != own and not answers(address)]:
            waited = time.monotonic() - start
            if waited > SECONDS_TO_START:
                raise UserError(
                    f"hardware=multi_worker: {', '.join(missing)} did not start within {SECONDS_TO_START // 60} "
                    "minutes: start the same command there, and check that its port can be reached"
                )
            if waited > SECONDS_BEFORE_WARNING and not warned:
                log.warning("Waiting for %s", ", ".join(missing))
                warned = True
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)


def _listening(address: str) -> socket.socket:
    """Return a socket that listens at this machine's address, so that the others can connect to it."""
    host, _, port = address.rpartition(":")
    try:
        try:
            return socket.create_server((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            return socket.create_server(("", int(port)))  # The others may know this machine by another name.
    except (OSError, OverflowError) as error:
        raise UserError(f"hardware=multi_worker: cannot listen at {address} ({error}): give a free port") from error


def answers(address: str, seconds: float = SECONDS_TO_CONNECT) -> bool:
    """Return whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def _cluster(workers: list[str], index: int | None, where: str, where_index: str) -> Cluster:
    """Return a checked cluster; messages call its parts `where` and `where_index`."""
    for address in workers:
        if not re.fullmatch(r"[^\s:]+:\d{1,5}", str(address)):
            raise UserError(f"{where}: {address} is not an address: write host:port, like node-1:8888")
    if len(set(workers)) < len(workers):
        raise UserError(f"{where}={workers}: give each address once")
    if index is None or not 0 <= index < len(workers):
        raise UserError(
            f"{where_index}={index}: give this machine's number among the {len(workers)} workers, 0 to "
            f"{len(workers) - 1}; 0 writes the run directory"
        )
    return Cluster(tuple(workers), index)


def _from_tf_config(text: str) -> Cluster:
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        chiefs = cluster.get("chief", [])
        workers = [*chiefs, *cluster["worker"]]
        index = {"chief": 0, "worker": len(chiefs)}[task["type"]] + int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG={text} cannot be read ({type(error).__name__}: {error}): it must look like "
            '{"cluster": {"worker": ["node-1:8888", "node-2:8888"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    return _cluster(workers, index, "TF_CONFIG", "TF_CONFIG's task index")


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    from vae_runner.compat.tensorflow import slurm_machines  # here, because it imports TensorFlow

    try:
        machines = slurm_machines(environment["SLURM_STEP_NODELIST"], environment.get("SLURM_STEP_TASKS_PER_NODE"))
        first_port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS  # Jobs may share a machine.
        workers = [f"{host}:{first_port + task}" for host, tasks in machines for task in range(tasks)]
        # SLURM can distribute the numbers of tasks in several ways, but node and local task are always given.
        node = int(environment["SLURM_NODEID"])
        index = sum(tasks for _, tasks in machines[:node]) + int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"hardware=multi_worker: SLURM's variables cannot be read ({type(error).__name__}: {error}): start it with "
            "srun, or give hardware.workers"
        ) from error
    return _cluster(workers, index, "SLURM_STEP_NODELIST", "SLURM's task")
