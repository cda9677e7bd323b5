"""Speed and memory as the work grows: `python -m benchmarks.growth --out growth.png`.

One thing at a time grows, from a common middle: Fashion-MNIST's shape, the default network, batches of 128. The images
are random: what they show changes neither speed nor memory. Each point is a process of its own, and the rounds
interleave them all.
"""

import argparse
import json
import resource
import statistics
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.rounds import Contestant, Results, interleave, python, show, spread, values

SECONDS = 4.0  # timed of a point


@dataclass(frozen=True)
class Point:
    """One configuration that is trained and measured."""

    batch_size: int = 128
    depth: int = 4
    latent: int = 2
    image_size: int = 28
    images: int = 20_000

    @property
    def name(self) -> str:
        """Return a name that is unique among the points."""
        return json.dumps(asdict(self))


MIDDLE = Point()
SERIES: dict[str, tuple[str, list[Point]]] = {
    "batch_size": ("images of a step", [replace(MIDDLE, batch_size=n) for n in (32, 64, 128, 256, 512, 1024)]),
    "depth": ("blocks", [replace(MIDDLE, depth=n) for n in (2, 3, 4, 6, 8)]),
    "latent": ("latent dimensions", [replace(MIDDLE, latent=n) for n in (2, 8, 31, 32, 128, 512)]),
    "image_size": (
        "side of the image (batch 32)",
        [Point(32, image_size=n, images=20_000 * 28**2 // n**2) for n in (28, 64, 128, 256)],
    ),
    "images": ("images of the dataset", [replace(MIDDLE, images=n) for n in (2_000, 20_000, 200_000, 1_000_000)]),
}
POINTS = list(dict.fromkeys(point for _, points in SERIES.values() for point in points))


def main() -> None:
    """Measure all points, print them, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each point is measured (3)")
    parser.add_argument("--out", type=Path, default=Path("growth.png"), help="the picture (growth.png)")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # a process of ours: measure this one
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(Point(**json.loads(arguments.point)))))
        return
    contestants = [Contestant(p.name, python("benchmarks.growth", "--point", p.name)) for p in POINTS]
    results = interleave(contestants, arguments.rounds)
    for key, (label, points) in SERIES.items():
        rows = [
            [
                f"{getattr(point, key):,}",
                spread(values(results, point.name, "images_per_second"), ",.0f"),
                spread(values(results, point.name, "gflops"), ".0f"),
                spread(values(results, point.name, "megabytes"), ",.0f"),
            ]
            for point in points
        ]
        show(label, [key, "images/s", "GFLOP/s of the plain network", "peak memory, MB"], rows)
    draw(results).savefig(arguments.out, dpi=150)


def measure(point: Point) -> dict[str, float]:
    """Train one point in this process, and return its images/s, GFLOP/s and peak resident memory in MiB."""
    from benchmarks.peers import Setting, images_per_second, ours
    from vae_runner.models.summary import summarize, training_flops

    shape = (point.images, point.image_size, point.image_size, 1)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    overrides = (f"model.depth={point.depth}", f"latent={point.latent}")
    train, inner, autoencoder = ours.prepare(images, Setting(point.batch_size), overrides)
    del images
    take = ours.taker(train, inner)
    probe = images_per_second(take, Setting(point.batch_size, steps=2, warmup=2))
    steps = max(2, round(SECONDS * probe / point.batch_size))
    speed = images_per_second(take, Setting(point.batch_size, steps=steps, warmup=0))
    flops = training_flops(summarize(autoencoder.encoder) + summarize(autoencoder.decoder))
    return {
        "images_per_second": speed,
        "gflops": speed * flops / 1e9,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def draw(results: Results) -> Figure:
    """Draw one column a series: images a second above, peak memory below."""
    figure = Figure(figsize=(3.2 * len(SERIES), 5.6), layout="constrained")
    axes = figure.subplots(2, len(SERIES), sharex="col", sharey="row", squeeze=False)
    for column, (key, (label, points)) in enumerate(SERIES.items()):
        x = [getattr(point, key) for point in points]
        for row, quantity in enumerate(("images_per_second", "megabytes")):
            _line(axes[row, column], x, [values(results, point.name, quantity) for point in points])
        axes[1, column].set_xlabel(label)
    axes[0, 0].set_ylabel("images/s")
    axes[1, 0].set_ylabel("peak resident memory, MB")
    return figure


def _line(axes: Axes, x: list[int], measured: list[list[float]]) -> None:
    median = [statistics.median(m) for m in measured]
    below = [middle - min(m) for middle, m in zip(median, measured, strict=True)]
    above = [max(m) - middle for middle, m in zip(median, measured, strict=True)]
    axes.errorbar(x, median, [below, above], marker="o", capsize=3)
    axes.set(xscale="log", yscale="log")
    apart = [x[0], *(after for before, after in pairwise(x) if after > 1.1 * before)]  # labels that do not overlap
    axes.set_xticks(apart, [_short(value) for value in apart])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)


def _short(value: int) -> str:
    """Abbreviate a number: `200k` for 200,000."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit and value % unit == 0:
            return f"{value // unit}{letter}"
    return str(value)


if __name__ == "__main__":
    main()
