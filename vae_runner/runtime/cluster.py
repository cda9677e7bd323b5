"""Which machines take part in a run, and which of them this one is.

A cluster comes from `hardware.workers` and `hardware.worker`; from the environment variable TF_CONFIG, as TensorFlow
has it; or from SLURM's variables.
"""

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

SECONDS_TO_COME = 600  # that the other machines have
SECONDS_BEFORE_WARNING = 5  # that they are waited for
SECONDS_BETWEEN = 0.2
SECONDS_TO_ANSWER = 2
FIRST_PORT, PORTS = 10_000, 20_000  # under SLURM, which assigns none: below those that systems give to clients


@dataclass(frozen=True)
class Cluster:
    """Machines that train together, by their addresses `host:port`, and the number of this one."""

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this is the machine that writes: the first."""
        return self.index == 0

    def named_in(self, text: str) -> str | None:
        """The address of the other machine that an error of TensorFlow's speaks of; None where it names none."""
        numbers = [int(number) for number in re.findall(r"/job:worker/replica:0/task:(\d+)", text)]
        named = (self.workers[number] for number in numbers if number != self.index and number < len(self.workers))
        return next(named, None)


def find(config: HardwareConfig, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that the configuration or the environment describes; None for a run on one machine.

    Raises:
        UserError: `hardware.distribution` is multi_worker, and the machines are not told, or make no sense.
    """
    if config.distribution != "multi_worker":
        return None
    if config.workers is not None:
        return _checked(list(config.workers), config.worker, "hardware.workers", "hardware.worker")
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

    TensorFlow waits too, but without an end, without saying for whom, and deaf to signals.

    Raises:
        UserError: this machine cannot listen at its address, or another one did not come.
    """
    others = [address for address in cluster.workers if address != cluster.workers[cluster.index]]
    begun, warned = time.monotonic(), False
    with _listening(cluster.workers[cluster.index]):
        while missing := [address for address in others if not answers(address)]:  # all of them, at the same time
            waited = time.monotonic() - begun
            if waited > SECONDS_TO_COME:
                raise UserError(
                    f"hardware=multi_worker: {', '.join(missing)} did not come within {SECONDS_TO_COME // 60} minutes: "
                    "start the same command there, and see that its port can be reached"
                )
            if waited > SECONDS_BEFORE_WARNING and not warned:
                log.warning("Waiting for %s", ", ".join(missing))
                warned = True
            time.sleep(SECONDS_BETWEEN)


def _listening(address: str) -> socket.socket:
    """A socket at this machine's address, for the others to see."""
    host, _, port = address.rpartition(":")
    try:
        try:
            return socket.create_server((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            return socket.create_server(("", int(port)))  # the others may know this machine by a name of their own
    except (OSError, OverflowError) as error:
        raise UserError(f"hardware=multi_worker: cannot listen at {address} ({error}): give a free port") from error


def answers(address: str, seconds: float = SECONDS_TO_ANSWER) -> bool:
    """Return whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def _checked(workers: list[str], index: int | None, where: str, where_index: str) -> Cluster:
    for address in workers:
        if not re.fullmatch(r"[^\s:]+:\d{1,5}", str(address)):
            raise UserError(f"{where}: {address} is no address: write host:port, like node-1:8888")
    if len(set(workers)) < len(workers):
        raise UserError(f"{where}={workers}: each address must be there once")
    if index is None or not 0 <= index < len(workers):
        raise UserError(
            f"{where_index}={index}: of {len(workers)} workers this machine must be one of 0 to {len(workers) - 1}; "
            "the first of them, 0, writes the run directory"
        )
    return Cluster(tuple(workers), index)


def _from_tf_config(text: str) -> Cluster:
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        workers = [*cluster.get("chief", []), *cluster["worker"]]
        first = {"chief": 0, "worker": len(cluster.get("chief", []))}[task["type"]]
        index = first + int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG={text} cannot be read ({type(error).__name__}: {error}): it must look like "
            '{"cluster": {"worker": ["node-1:8888", "node-2:8888"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    return _checked(workers, index, "TF_CONFIG", "TF_CONFIG's task index")


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    from vae_runner.compat.tensorflow import slurm_machines  # here, because it imports TensorFlow

    try:
        machines = slurm_machines(environment["SLURM_STEP_NODELIST"], environment.get("SLURM_STEP_TASKS_PER_NODE"))
        first = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS  # another job may be on the same machine
        workers = [f"{host}:{first + task}" for host, own in machines for task in range(own)]
        # SLURM may number tasks across machines in other ways, but always tells these.
        index = sum(own for _, own in machines[: int(environment["SLURM_NODEID"])]) + int(environment["SLURM_LOCALID"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"hardware=multi_worker: SLURM's variables cannot be read ({type(error).__name__}: {error}): start it with "
            "srun, or give hardware.workers"
        ) from error
    return _checked(workers, index, "SLURM_STEP_NODELIST", "SLURM's task")
