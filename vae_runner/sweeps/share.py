"""Cores and GPUs of a machine, shared out among the processes that a launcher runs there at the same time."""

import os
import sys
from itertools import takewhile
from pathlib import Path

from omegaconf import DictConfig

from vae_runner.files.locks import Lock
from vae_runner.sweeps.directory import SweepDirectory

_held: list[Lock] = []  # until this process ends


def take_share(launcher: DictConfig, sweep: SweepDirectory, *, gpus: bool) -> None:
    """Limit TensorFlow in this process, before its import, to its share of the cores, and with `gpus` of the GPUs.

    A launcher (`hydra.launcher`) without a setting for cores leaves them to the process, or to a scheduler.
    """
    if "tensorflow" in sys.modules:
        return
    processes = _processes(launcher)
    threads = _cores() // processes if processes else _requested(launcher)
    if threads is not None:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(threads, 1)))
    if processes > 1 and gpus and (visible := _visible_gpus()):
        own = _slot(sweep, processes)
        mine = visible[own::processes] or [visible[own % len(visible)]]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


def _processes(launcher: DictConfig) -> int:
    """Return how many processes run on this machine at the same time; 0 where the launcher does not decide that."""
    number = int(launcher.get("n_jobs") or 0)
    return number if number >= 0 else max(_cores() + 1 + number, 1)  # as joblib counts


def _requested(launcher: DictConfig) -> int | None:
    """Return how many cores the launcher asks a scheduler for, or None."""
    ray = launcher.get("ray") or {}
    cores = launcher.get("cpus_per_task") or (ray.get("remote") or {}).get("num_cpus")
    return None if cores is None else int(cores)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible_gpus() -> list[str]:
    """Return the GPUs that TensorFlow would find, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # CUDA takes those before the first that is none, as -1 is, by which GPUs are hidden.
        return list(takewhile(lambda name: name and not name.startswith("-"), given.split(",")))
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def _slot(sweep: SweepDirectory, processes: int) -> int:
    """Return a number below `processes`, held by no other process of the sweep on this machine."""
    for number in range(processes):
        lock = Lock(sweep.slot_file(number))
        if lock.acquire(timeout=0):
            if not lock.is_locked:  # The file system has no locks.
                break
            _held.append(lock)
            return number
    # Without locks, or while a process that has been replaced still has one, any number will do.
    return os.getpid() % processes
