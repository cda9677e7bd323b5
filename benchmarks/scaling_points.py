"""The points that `benchmarks.scaling` measures, each in processes of its own."""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rounds import Figures, python
from benchmarks.scaling_model import SMALL_BYTES

BATCH_SIZE = 128
IMAGES = 64 * BATCH_SIZE  # an epoch, and longer than what is measured
CORES = len(os.sched_getaffinity(0))
OTHERS = 0.1  # cores that other programs may take
SECONDS_OF_PEACE, SECONDS_OF_PATIENCE = 1.0, 120.0
SMALL_SHAPE = (3, SMALL_BYTES // 12)
SMALLS, LARGES = 50, 5  # all-reduces that are timed in one call, each on the result of the one before,
CALLS = 5  # and calls


@dataclass(frozen=True)
class Point:
    """What is measured: processes with `replicas` devices each, which share a batch if they are connected."""

    batch_size: int = BATCH_SIZE
    replicas: int = 1
    processes: int = 1
    connected: bool = False
    synchronized: bool = True  # batch normalisation

    @property
    def name(self) -> str:
        """Return a name that is unique among the points."""
        return json.dumps(asdict(self))

    @property
    def devices(self) -> int:
        """Return the number of devices that share a batch."""
        return self.replicas * (self.processes if self.connected else 1)


def share(point: Point, at_once: int | None = None) -> Point:
    """Return the point of one device on its share of the batch of `point`, with as many at once as there are cores."""
    at_once = at_once or min(point.devices, CORES)
    return Point(point.batch_size // point.devices, processes=at_once)


ALONE = Point(synchronized=False)
SHARED = {
    "2 devices": Point(replicas=2),
    "4 devices": Point(replicas=4),
    "2 processes": Point(processes=2, connected=True),
}
PIECES = {
    "one device, 128 images, batch normalisation as on one device": ALONE,
    "the same, batch normalisation as if synchronised": Point(),
    "one device, 64 images": share(SHARED["2 devices"], at_once=1),
    "one device, 64 images, with another one at work": share(SHARED["2 devices"]),
    "one device, 32 images, with another one at work": share(SHARED["4 devices"]),
}


def main() -> None:
    """Measure a point, and print its figures as JSON; with `--worker`, be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("point", help="as JSON: the fields of Point")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--patience", type=int, default=0)
    parser.add_argument("--worker", type=int, help="the number of this process")
    parser.add_argument("--addresses", nargs="*", default=[], help="of all processes, if they are connected")
    options = parser.parse_args()
    point = Point(**json.loads(options.point))
    if options.worker is None:
        print(json.dumps(run(point, options)))
    else:
        measure(point, options)


def busy_cores(seconds: float) -> float:
    """Measure how many cores of the whole machine are busy in the next `seconds`."""
    start, before = time.perf_counter(), busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / (time.perf_counter() - start)


def busy_seconds() -> float:
    """Return the busy seconds of all cores since the machine started, with those its host took (man 5 proc_stat)."""
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = Path("/proc/stat").read_text().split()[1:9]
    ticks = sum(map(int, (user, nice, system, *interrupts_and_stolen)))
    return ticks / os.sysconf("SC_CLK_TCK")


def run(point: Point, options: argparse.Namespace) -> Figures:
    """Let the processes of a point train at the same time, and return the means of their figures.

    Of several tries, the one in which other programs were least busy counts.
    """
    addresses = free_addresses(point.processes) if point.connected else []
    arguments = [point.name, "--steps", options.steps, "--addresses", *addresses]
    tried: list[Figures] = []
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(part(arguments, worker)) for worker in range(point.processes)]
        for process in processes:
            answer(process)  # "ready"
        while not tried or (tried[-1]["others"] > OTHERS and len(tried) <= options.patience):
            if options.patience:
                wait_for_peace()
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
            figures = [json.loads(answer(process)) for process in processes]
            means = {name: statistics.mean(one[name] for one in figures) for name in figures[0]}
            tried.append(means | {"others": means["busy"] - point.processes * means["cores"]})
    return min(tried, key=lambda figures: figures["others"])


def answer(process: subprocess.Popen[str]) -> str:
    """Read the next line of a process.

    Raises:
        SystemExit: it ended without one.
    """
    said = process.stdout.readline()
    if not said:
        sys.exit("a process of the point ended before its time")
    return said


def wait_for_peace() -> None:
    """Wait until other programs are nearly idle, but two minutes at most."""
    end = time.monotonic() + SECONDS_OF_PATIENCE
    while busy_cores(SECONDS_OF_PEACE) > OTHERS and time.monotonic() < end:
        pass


@contextlib.contextmanager
def part(arguments: Sequence[object], worker: int) -> Iterator[subprocess.Popen[str]]:
    """Start one process of a point, and end it with the context."""
    command = python("benchmarks.scaling_points", *arguments, "--worker", worker)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_addresses(count: int) -> list[str]:
    """Return free addresses on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def measure(point: Point, options: argparse.Namespace) -> None:
    """Measure this process's part of a point: print its figures, one line for each line of standard input."""
    from benchmarks.peers import Setting, ours

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    train, inner, autoencoder = ours.prepare(images, Setting(point.batch_size), overrides(point, options))
    take = ours.taker(train, inner)
    take(3)  # the step is traced, and everything allocated
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(take, point, options.steps) | all_reduces(inner, autoencoder, point)), flush=True)


def timed(take: Callable[[int], None], point: Point, steps: int) -> Figures:
    """Take the steps, and return their speed and how many cores this process and the machine used."""
    start, worked, busy = time.perf_counter(), time.process_time(), busy_seconds()
    take(steps)
    seconds, worked, busy = time.perf_counter() - start, time.process_time() - worked, busy_seconds() - busy
    return {
        "step": 1000 * seconds / steps,
        "images_per_second": steps * point.batch_size / seconds,
        "cores": worked / seconds,
        "busy": busy / seconds,  # cores of the whole machine
    }


def all_reduces(inner: Any, autoencoder: Any, point: Point) -> Figures:
    """Return how many all-reduces there are in a step, and how many ms they take."""
    if point.devices == 1:
        return {}
    shapes = [variable.shape for variable in autoencoder.trainable_variables]
    strategy = autoencoder.trainable_variables[0].value.distribute_strategy
    return {
        "gradients": 1000 * all_reduce(strategy, shapes, LARGES),
        "small": 1000 * all_reduce(strategy, [SMALL_SHAPE], SMALLS),
        "all_reduces": count_all_reduces(inner, point.replicas),
    }


def overrides(point: Point, options: argparse.Namespace) -> list[str]:
    """Return the overrides of this process: one core a device, as far as there are cores."""
    cores = [
        "hardware.intra_op_threads=1",
        f"hardware.inter_op_threads={min(point.replicas, CORES)}",
        "hardware.custom_ops=false",  # the devices stand for GPUs, for which there are none
    ]
    normalization = f"hardware.sync_batch_norm={str(point.synchronized).lower()}"
    if point.connected:
        workers = f"hardware.workers=[{','.join(options.addresses)}]"
        kind = ["hardware.distribution=multi_worker", workers, f"hardware.worker={options.worker}"]
    else:
        kind = ["hardware.distribution=mirrored", f"hardware.logical_cpus={point.replicas}"]
    return [*kind, *cores, normalization]


def all_reduce(strategy: Any, shapes: Sequence[Sequence[int]], times: int) -> float:
    """Measure the seconds of one all-reduce of tensors of these shapes, with nothing else to do."""
    import tensorflow as tf

    def chain() -> list[tf.Tensor]:
        tensors = [tf.ones(shape) for shape in shapes]
        for _ in range(times):
            sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)
            tensors = [total / strategy.num_replicas_in_sync for total in sums]
        return tensors

    def wait(result: list[Any]) -> None:
        for tensor in strategy.experimental_local_results(result[-1]):
            tensor.numpy()

    compiled = tf.function(lambda: strategy.run(chain), autograph=False)
    wait(compiled())
    start = time.perf_counter()
    for _ in range(CALLS):
        wait(compiled())
    return (time.perf_counter() - start) / CALLS / times


def count_all_reduces(inner: Any, replicas: int) -> float:
    """Count the all-reduces of one step in TensorFlow's graph, to which there is no public way."""
    (traced,) = inner._compiled_train._list_all_concrete_functions()
    functions = traced.graph.as_graph_def().library.function
    return sum(node.op.startswith("CollectiveReduce") for one in functions for node in one.node_def) / replicas


if __name__ == "__main__":
    main()
