"""Speed over several devices, measured and on paper: `python -m benchmarks.scaling --out scaling.png`.

Measured: Fashion-MNIST's shape and network, batches of 128 shared by 1, 2 and 4 devices on this machine's cores, and by
two processes on loopback. With one thread within an operation, a device works on one core. From the step of a single
device on a share of the batch, and from the all-reduces alone, the model in `benchmarks/scaling_model.py` predicts the
shared step: both are printed. The images are random: what they show does not change the speed.

On paper: the same model for up to 256 GPUs (`--paper` prints this part alone).
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.rounds import Contestant, Results, interleave, python, ratios, show, spread, values
from benchmarks.scaling_model import (
    PAYS,
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
from benchmarks.scaling_points import ALONE, BATCH_SIZE, CORES, OTHERS, PIECES, SHARED, Point, share

GPUS = [2**power for power in range(9)]
LINKS = (100e9, 200e9, 400e9)  # bit/s
KINDS = ("in all", "a GPU")

Curve = tuple[Callable[[int], float], int]  # a speed-up over GPUs, and up to how many


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
    add_options(parser)
    options = parser.parse_args()
    results = {} if options.paper else measured(options)
    if results:
        print_measured(results)
    given, on_paper = assumptions(options), networks()
    print_paper(on_paper, given, options.batch_size)
    if options.out:
        draw(results, on_paper, given, options.batch_size).savefig(options.out, dpi=150)


# --- measured --------------------------------------------------------------------------------------------------


def measured(options: argparse.Namespace) -> Results:
    """Measure all points, or read the results that an earlier command kept."""
    if options.results and options.results.exists():
        kept: Results = json.loads(options.results.read_text())
        return kept
    results = interleave(contestants(options), options.rounds)
    if options.results:
        options.results.write_text(json.dumps(results))
    return results


def contestants(options: argparse.Namespace) -> list[Contestant]:
    """Return one contestant for each point."""
    points = dict.fromkeys([*PIECES.values(), *SHARED.values()])
    settings = ["--steps", options.steps, "--patience", options.patience]
    return [Contestant(p.name, python("benchmarks.scaling_points", p.name, *settings)) for p in points]


def predicted(results: Results, point: Point) -> list[float]:
    """Predict the milliseconds of a shared step, round by round, from its pieces.

    More devices than cores take turns.
    """
    turns = point.devices / min(point.devices, CORES)
    computing = values(results, share(point).name, "step")
    gradients, small, count = (values(results, point.name, key) for key in ("gradients", "small", "all_reduces"))
    pieces = zip(computing, gradients, small, count, strict=True)
    return [step_seconds(turns * step, large, little, int(n) - 1) for step, large, little, n in pieces]


def print_measured(results: Results) -> None:
    """Print speeds, the pieces of a step, and the predictions that the model makes from them."""
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
    """Describe both of the tutorial's networks and a larger one of the family, without memory for their weights."""
    import keras

    made = [
        network("Fashion-MNIST, 28×28", (28, 28, 1), latent=2),
        network("Cartoon Set, 256×256", (256, 256, 3), latent=200),
        network("52 M parameters, 128×128", (128, 128, 3), 200, filters=[64, 128, 256, 512, 1024]),
    ]
    keras.utils.clear_session()  # variables that still wait for values
    return made


def network(name: str, image_shape: tuple[int, int, int], latent: int, filters: list[int] | None = None) -> Network:
    """Describe the network of `vae-run latent=… model.filters=…` by what the time of a step depends on."""
    import keras

    from vae_runner.likelihoods.mse import MeanSquaredError
    from vae_runner.models.conv import build
    from vae_runner.models.summary import summarize, training_flops
    from vae_runner.posteriors.gaussian import Gaussian

    depth = len(filters) if filters else None

    with keras.StatelessScope(initialize_variables=False):
        networks = build(image_shape, latent, Gaussian(), MeanSquaredError(), depth=depth, filters=filters)
        layers = [layer for network in networks for layer in summarize(network)]
        variables = [variable for network in networks for variable in network.trainable_variables]
        parameters = sum(int(np.prod(variable.shape)) for variable in variables)
    working = [layer for layer in layers if layer.kind not in ("Flatten", "Reshape", "Cropping2D")]
    normalizations = sum(layer.kind == "BatchNormalization" for layer in layers)
    return Network(name, parameters, training_flops(layers), len(working), normalizations)


def print_paper(on_paper: Sequence[Network], given: Assumptions, batch_size: int) -> None:
    """Print the networks, their speed-ups, the number of GPUs up to which more pay, and a published measurement."""
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
    """Return the speed-up curve of each network with a shared batch, then of each with a batch a GPU."""
    shared = [(lambda n, one=one: strong_speedup(one, n, batch_size, given), batch_size) for one in on_paper]
    own = [(lambda n, one=one: weak_speedup(one, n, batch_size, given), GPUS[-1]) for one in on_paper]
    return [*shared, *own]


# --- drawn -----------------------------------------------------------------------------------------------------


def draw(results: Results, on_paper: Sequence[Network], given: Assumptions, batch_size: int) -> Figure:
    """Draw measured and predicted speeds, if there are any, and the speed-ups on paper."""
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
