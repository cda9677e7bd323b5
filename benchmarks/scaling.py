"""Speed over several devices, measured and on paper: `python -m benchmarks.scaling --out scaling.png`.

Measured: Fashion-MNIST's shape and network, batches of 128 shared by 1, 2 and 4 devices on this machine's cores, and by
two processes on loopback. With one thread within an operation, a device works on one core. From the step of a single
device on a share of the batch, and from the all-reduces alone, the model in `benchmarks/scaling_model.py` predicts the
shared step: both are printed. The images are random: what they show does not change the speed.

On paper: the same model for up to 256 GPUs (`--paper` prints this part alone).
"""

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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.rounds import Contestant, Figures, Results, interleave, python, ratios, show, spread, values
from benchmarks.scaling_model import (
    PAYS,
    SMALL_BYTES,
    Assumptions,
    Network,
    add_options,
    assumptions,
    pays_up_to,
    predicted_seconds,
    step_seconds,
    strong_speedup,
    weak_speedup,
)

BATCH_SIZE = 128
IMAGES = 64 * BATCH_SIZE  # an epoch, and longer than what is measured
CORES = len(os.sched_getaffinity(0))
GPUS = [2**power for power in range(9)]
LINKS = (100e9, 200e9, 400e9)  # bit/s
KINDS = ("in all", "a GPU")

Curve = tuple[Callable[[int], float], int]  # a speed-up over GPUs, and up to how many
SMALL_SHAPE = (3, SMALL_BYTES // 12)
OTHERS = 0.1  # cores that other programs may take
SECONDS_OF_PEACE, SECONDS_OF_PATIENCE = 1.0, 120.0
SMALLS, LARGES = 50, 5  # all-reduces that are timed in one call, each on the result of the one before,
CALLS = 5  # and calls


@dataclass(frozen=True)
class Point:
    """What trains: processes of so many devices each, which share a batch if they are connected."""

    batch_size: int = BATCH_SIZE
    replicas: int = 1
    processes: int = 1
    connected: bool = False
    synchronized: bool = True  # batch normalisation

    @property
    def name(self) -> str:
        """Unique among the points."""
        return json.dumps(asdict(self))

    @property
    def devices(self) -> int:
        """That share a batch."""
        return self.replicas * (self.processes if self.connected else 1)


def share(point: Point, at_once: int | None = None) -> Point:
    """One device on the share of a batch that each device of `point` has; as many at once as there are cores for."""
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
    """Measure, predict, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each point is measured (3)")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed (20)")
    parser.add_argument(
        "--patience",
        type=int,
        default=0,
        help=f"wait for quiet moments; repeat, so often at most, where others took over {OTHERS} cores (0: do neither)",
    )
    parser.add_argument("--paper", action="store_true", help="measure nothing: the part on paper alone")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="on paper: images of a step, or of a GPU's")
    parser.add_argument("--out", type=Path, help="a picture of all of it, measured and on paper")
    parser.add_argument("--results", type=Path, help="a file for what is measured; if it is there, it is used instead")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # a process of ours: measure this one
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # one of its own: this part of it
    parser.add_argument("--addresses", nargs="*", default=[], help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.point:
        point = Point(**json.loads(options.point))
        if options.worker is None:
            print(json.dumps(run(point, options)))
        else:
            measure(point, options)
        return
    results = {} if options.paper else measured(options)
    if results:
        print_measured(results)
    given, on_paper = assumptions(options), networks()
    print_paper(on_paper, given, options.batch_size)
    if options.out:
        draw(results, on_paper, given, options.batch_size).savefig(options.out, dpi=150)


# --- measured --------------------------------------------------------------------------------------------------


def measured(options: argparse.Namespace) -> Results:
    """By this command, or by an earlier one that kept its results."""
    if options.results and options.results.exists():
        kept: Results = json.loads(options.results.read_text())
        return kept
    results = interleave(contestants(options), options.rounds)
    if options.results:
        options.results.write_text(json.dumps(results))
    return results


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """One a point."""
    points = dict.fromkeys([*PIECES.values(), *SHARED.values()])
    settings = ["--steps", options.steps, "--patience", options.patience]
    return [Contestant(p.name, python("benchmarks.scaling", "--point", p.name, *settings)) for p in points]


def busy_cores(seconds: float) -> float:
    """How many cores work, on the whole machine, in the next seconds."""
    start, before = time.perf_counter(), busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / (time.perf_counter() - start)


def busy_seconds() -> float:
    """Of all cores since the machine started, those that its host took away included (man 5 proc_stat)."""
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = Path("/proc/stat").read_text().split()[1:9]
    ticks = sum(map(int, (user, nice, system, *interrupts_and_stolen)))
    return ticks / os.sysconf("SC_CLK_TCK")


def run(point: Point, options: argparse.Namespace) -> Figures:
    """Let the processes of a point train, all in the same seconds, and take the means of their figures.

    Of several tries those in which other programs did least.
    """
    addresses = free_addresses(point.processes) if point.connected else []
    arguments = ["--point", point.name, "--steps", options.steps, "--addresses", *addresses]
    tried: list[Figures] = []
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(part(arguments, worker)) for worker in range(point.processes)]
        for process in processes:
            answer(process)  # it is ready
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
    """What it says next."""
    said = process.stdout.readline()
    if not said:
        sys.exit("a process of the point ended before its time")
    return said


def wait_for_peace() -> None:
    """Wait until other programs do little, but not for ever."""
    end = time.monotonic() + SECONDS_OF_PATIENCE
    while busy_cores(SECONDS_OF_PEACE) > OTHERS and time.monotonic() < end:
        pass


@contextlib.contextmanager
def part(arguments: Sequence[object], worker: int) -> Iterator[subprocess.Popen[str]]:
    """One process of a point, which ends with what is inside."""
    command = python("benchmarks.scaling", *arguments, "--worker", worker)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_addresses(count: int) -> list[str]:
    """On loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def measure(point: Point, options: argparse.Namespace) -> None:
    """This process's part of a point: its figures, a line each time it is told to go."""
    from benchmarks.peers import Setting, ours

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    train, inner, autoencoder = ours.prepare(images, Setting(point.batch_size), overrides(point, options))
    take = ours.taker(train, inner)
    take(3)  # traced, and everything allocated
    print("ready", flush=True)
    for _ in sys.stdin:  # told to go
        print(json.dumps(timed(take, point, options.steps) | all_reduces(inner, autoencoder, point)), flush=True)


def timed(take: Callable[[int], None], point: Point, steps: int) -> Figures:
    """The speed, and who was at work."""
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
    """How many there are in a step, and how long they take, in ms."""
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
    """The configuration of this process: a core a device, as far as there are cores."""
    threads = ["hardware.intra_op_threads=1", f"hardware.inter_op_threads={min(point.replicas, CORES)}"]
    normalization = f"hardware.sync_batch_norm={str(point.synchronized).lower()}"
    if point.connected:
        workers = f"hardware.workers=[{','.join(options.addresses)}]"
        kind = ["hardware.distribution=multi_worker", workers, f"hardware.worker={options.worker}"]
    else:
        kind = ["hardware.distribution=mirrored", f"hardware.logical_cpus={point.replicas}"]
    return [*kind, *threads, normalization]


def all_reduce(strategy: Any, shapes: Sequence[Sequence[int]], times: int) -> float:
    """Seconds of one all-reduce of tensors of these shapes, with nothing else to do."""
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

    compiled = tf.function(lambda: strategy.run(chain))
    wait(compiled())
    start = time.perf_counter()
    for _ in range(CALLS):
        wait(compiled())
    return (time.perf_counter() - start) / CALLS / times


def count_all_reduces(inner: Any, replicas: int) -> float:
    """Of one step, as TensorFlow's graph has them; there is no public way to it."""
    (traced,) = inner._compiled_train._list_all_concrete_functions()
    functions = traced.graph.as_graph_def().library.function
    return sum(node.op.startswith("CollectiveReduce") for one in functions for node in one.node_def) / replicas


def predicted(results: Results, point: Point) -> list[float]:
    """Milliseconds of a shared step, round by round, from its pieces.

    More devices than cores take turns.
    """
    turns = point.devices / min(point.devices, CORES)
    computing = values(results, share(point).name, "step")
    gradients, small, count = (values(results, point.name, key) for key in ("gradients", "small", "all_reduces"))
    pieces = zip(computing, gradients, small, count, strict=True)
    return [step_seconds(turns * step, large, little, int(n) - 1) for step, large, little, n in pieces]


def print_measured(results: Results) -> None:
    """Speeds, the pieces, and what the model makes of them."""
    alone = values(results, ALONE.name, "images_per_second")
    rows = [
        [name, spread(speeds, ",.0f"), spread(ratios(speeds, alone)) + " ×"]
        for name, point in ({"1 device": ALONE} | SHARED).items()
        for speeds in [values(results, point.name, "images_per_second")]
    ]
    show(f"{BATCH_SIZE} images a step on {CORES} cores, one a device", ["devices", "images/s", "speed-up"], rows)
    pieces = [
        [name, spread(values(results, point.name, "step"), ".1f"), spread(values(results, point.name, "cores"))]
        for name, point in PIECES.items()
    ]
    for name, point in SHARED.items():
        large, small = (spread(values(results, point.name, key)) for key in ("gradients", "small"))
        pieces += [[f"all-reduce of the gradients, {name}", large, ""], [f"small all-reduce, {name}", small, ""]]
    show("What a step is made of", ["piece", "ms", "cores at work, each process"], pieces)
    rows = []
    for name, point in SHARED.items():
        measured, expected = values(results, point.name, "step"), predicted(results, point)
        count = f"{values(results, point.name, 'all_reduces')[0]:.0f}"
        cores = spread([point.processes * n for n in values(results, point.name, "cores")])
        quotient = spread(ratios(expected, measured))
        rows.append([name, count, spread(expected, ".1f"), spread(measured, ".1f"), quotient, cores])
    columns = ["devices", "all-reduces", "predicted, ms", "measured, ms", "predicted to measured", "cores at work"]
    show("A step, predicted from the pieces, and measured", columns, rows)


# --- on paper --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A speed-up that someone measured, with so many images on each GPU."""

    network: Network
    images: int
    gpus: int
    speedup: float
    source: str


PUBLISHED = Published(
    Network("ResNet-50", parameters=25_557_032, flops=6 * 4_089_000_000, layers=156, normalizations=0),
    images=256,
    gpus=8,
    speedup=7.70,
    source="NVIDIA DeepLearningExamples, TensorFlow/Classification/ConvNets/resnet50v1.5, TF32 with XLA, DGX A100",
)


def networks() -> list[Network]:
    """Both of the tutorial's, and a larger one of the same family; built without memory for their weights."""
    import keras

    made = [
        network("Fashion-MNIST, 28×28", (28, 28, 1), latent=2),
        network("Cartoon Set, 256×256", (256, 256, 3), latent=200),
        network("52 M parameters, 128×128", (128, 128, 3), 200, filters=[64, 128, 256, 512, 1024]),
    ]
    keras.utils.clear_session()  # variables that still wait for values
    return made


def network(name: str, image_shape: tuple[int, int, int], latent: int, filters: list[int] | None = None) -> Network:
    """What the time of a step depends on, of `vae-run latent=… model.filters=…` on such images."""
    import keras

    from vae_runner.models.conv import build
    from vae_runner.models.posterior import DiagonalGaussian
    from vae_runner.models.summary import summarize, training_flops

    with keras.StatelessScope(initialize_variables=False):
        autoencoder = build(
            image_shape, latent, DiagonalGaussian, depth=len(filters) if filters else None, filters=filters
        )
        layers = summarize(autoencoder.encoder) + summarize(autoencoder.decoder)
        parameters = sum(int(np.prod(variable.shape)) for variable in autoencoder.trainable_variables)
    working = [layer for layer in layers if layer.kind not in ("Flatten", "Reshape", "Cropping2D")]
    normalizations = sum(layer.kind == "BatchNormalization" for layer in layers)
    return Network(name, parameters, training_flops(layers), len(working), normalizations)


def print_paper(on_paper: Sequence[Network], given: Assumptions, batch_size: int) -> None:
    """The networks, their speed-ups, from where on more GPUs do not pay, and a published measurement."""
    rows = []
    for one in on_paper:
        numbers = [f"{one.parameters:,}", f"{one.gradient_bytes / 1e6:,.1f}", f"{one.flops / 1e9:,.2f}"]
        step = predicted_seconds(one, 1, batch_size, given)
        rows.append([one.name, *numbers, f"{one.small_all_reduces}", f"{1000 * step:,.1f}"])
    columns = ["network", "parameters", "gradients, MB", "GFLOP an image", "small all-reduces", "step on one GPU, ms"]
    show(f"On paper: {batch_size} images", columns, rows)

    names = [one.name for one in on_paper]
    both = curves(on_paper, given, batch_size)
    for kind, part in zip(KINDS, (both[: len(names)], both[len(names) :]), strict=True):
        rows = [
            [str(gpus), *(f"{speedup(gpus):.1f}" if gpus <= most else "–" for speedup, most in part)] for gpus in GPUS
        ]
        title = f"Times as many images a second: {batch_size} images {kind}, {given.network_bits / 1e9:.0f} Gbit/s"
        show(title, ["GPUs", *names], rows)

    rows = []
    for link in LINKS:
        both = curves(on_paper, replace(given, network_bits=link), batch_size)
        rows.append([f"{link / 1e9:.0f}", *(_limit(*curve) for curve in both)])
    columns = ["Gbit/s", *(f"{name}, {kind}" for kind in KINDS for name in names)]
    show(f"GPUs up to which each doubling brings {PAYS} × ({batch_size} images)", columns, rows)

    speedup = weak_speedup(PUBLISHED.network, PUBLISHED.gpus, PUBLISHED.images, given)
    row = [PUBLISHED.network.name, str(PUBLISHED.gpus), f"{speedup:.2f}", f"{PUBLISHED.speedup:.2f}"]
    show(f"Against a published measurement: {PUBLISHED.source}", ["network", "GPUs", "predicted", "measured"], [row])


def _limit(speedup: Callable[[int], float], most: int) -> str:
    limit = pays_up_to(speedup, most)
    return f"≥ {limit}" if limit == most else str(limit)


def curves(on_paper: Sequence[Network], given: Assumptions, batch_size: int) -> list[Curve]:
    """The speed-up over GPUs, and up to how many: of each network with a shared batch, then with a batch a GPU."""
    shared = [(lambda n, one=one: strong_speedup(one, n, batch_size, given), batch_size) for one in on_paper]
    own = [(lambda n, one=one: weak_speedup(one, n, batch_size, given), GPUS[-1]) for one in on_paper]
    return [*shared, *own]


# --- drawn -----------------------------------------------------------------------------------------------------


def draw(results: Results, on_paper: Sequence[Network], given: Assumptions, batch_size: int) -> Figure:
    """Measured and predicted speeds, where there are some; on paper a shared batch's speed-up, and a batch a GPU's."""
    columns = 3 if results else 2
    figure = Figure(figsize=(4.4 * columns, 4.0), layout="constrained")
    axes = figure.subplots(1, columns)
    if results:
        _draw_measured(axes[0], results)
    both = curves(on_paper, given, batch_size)
    _draw_shared(axes[-2], on_paper, both[: len(on_paper)])
    _draw_own(axes[-1], on_paper, both[len(on_paper) :])
    for ax, kind in zip(axes[-2:], KINDS, strict=True):
        ax.set(xscale="log", xlabel="GPUs", title=f"On paper: {batch_size} images {kind}")
        ax.set_xticks(GPUS, [str(gpus) for gpus in GPUS])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(alpha=0.3)
    return figure


def _draw_shared(axes: Axes, on_paper: Sequence[Network], part: Sequence[Curve]) -> None:
    axes.plot(GPUS, GPUS, color="grey", linestyle=":", linewidth=1, zorder=0, label="ideal")
    for (speedup, most), one in zip(part, on_paper, strict=True):
        x = [gpus for gpus in GPUS if gpus <= most]
        (line,) = axes.plot(x, [speedup(gpus) for gpus in x], marker="o", markersize=4, label=one.name)
        end = pays_up_to(speedup, most)
        axes.plot(end, speedup(end), "o", markersize=10, fillstyle="none", color=line.get_color())
    axes.plot([], [], "o", markersize=10, fillstyle="none", color="grey", label=f"last doubling to bring {PAYS} ×")
    axes.set(yscale="log", ylabel="speed-up over one GPU", ylim=(0.5, 128))
    ticks = [0.5, 1, 2, 4, 8, 16, 32, 64, 128]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize="small", loc="upper left")


def _draw_own(axes: Axes, on_paper: Sequence[Network], part: Sequence[Curve]) -> None:
    for (speedup, _), one in zip(part, on_paper, strict=True):
        axes.plot(GPUS, [100 * speedup(gpus) / gpus for gpus in GPUS], marker="o", markersize=4, label=one.name)
    axes.set(ylabel="speed-up by the number of GPUs, %", ylim=(0, 105))
    axes.legend(fontsize="small", loc="lower left")


def _draw_measured(axes: Axes, results: Results) -> None:
    points = {"1 device": ALONE} | SHARED
    positions = range(len(points))
    speeds = [values(results, point.name, "images_per_second") for point in points.values()]
    medians = [statistics.median(one) for one in speeds]
    below = [middle - min(one) for middle, one in zip(medians, speeds, strict=True)]
    above = [max(one) - middle for middle, one in zip(medians, speeds, strict=True)]
    axes.bar(positions, medians, width=0.55, color="tab:blue", alpha=0.45)
    axes.errorbar(positions, medians, [below, above], fmt="o", color="tab:blue", capsize=4, label="measured")
    expected = [1000 * BATCH_SIZE / statistics.median(predicted(results, point)) for point in SHARED.values()]
    axes.plot(positions[1:], expected, "D", color="tab:red", fillstyle="none", markersize=9, label="predicted")
    axes.set_xticks(positions, list(points))
    axes.set(ylabel="images/s", title=f"Measured: {BATCH_SIZE} images shared, {CORES} cores")
    axes.set_ylim(0, 1.3 * max(*medians, *expected))
    axes.legend(fontsize="small", loc="upper left")


if __name__ == "__main__":
    main()
