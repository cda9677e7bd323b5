"""Plots of a metric of a sweep's runs over what varies, as SVG."""

import html
import io
import re
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_runner.figures.labels import plain_text
from vae_runner.sweeps.values import as_number, in_order

INCHES = (5.0, 3.3)
LOGARITHMIC = 10  # numbers above 0 that span more than this factor lie on a logarithmic axis
MAX_TICKS = 8  # of values that are written below the axis: of more of them, Matplotlib chooses which
MAX_COLOURS = 10  # that are told apart by their hues, and in the legend
LONGEST_NAME = 14  # letters n
STYLE = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class Point(NamedTuple):
    """A run in a plot."""

    run: str
    value: object  # of the key that the plot is over
    colour: object  # the value of the key that the colours stand for
    metric: float


def metric_plot(
    metric: str,
    key: str,
    colour_key: str | None,
    points: Sequence[Point],
    *,
    of_search: bool = False,
    logarithmic: bool = False,
) -> str:
    """Return an SVG of a metric over a key, with a dot for each run, in the colour of its value of another key.

    A line goes through the mean of the runs of one value and one colour, and a bar spans a standard deviation (n − 1)
    to either side. In a sweep of two keys and seeds such runs differ in their seeds alone; the trials `of_search`
    differ in all that is searched, and no lines join their means. Numbers lie where they belong, if asked for on a
    `logarithmic` axis; other values stand side by side. A dot has the name of its run and its values for the pointer.
    """
    salt = {"svg.hashsalt": f"{metric} over {key}"}  # else parts of two plots of one page would have the same names
    with style.context(["default", STYLE, salt]):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(plain_text(f"{metric} over {key}", 4 * LONGEST_NAME), fontweight="bold", loc="left")
        axes.set_ylabel(plain_text(metric, 2 * LONGEST_NAME))
        axes.set_xlabel(plain_text(key, 3 * LONGEST_NAME))
        axes.grid(axis="y", alpha=0.3)
        places, is_scale = _axis(axes, [point.value for point in points], logarithmic=logarithmic)
        colours = sorted({str(point.colour): point.colour for point in points}.values(), key=in_order)
        by_colour: dict[str, list[tuple[int, float, Point]]] = {}
        for number, (place, point) in enumerate(zip(places, points, strict=True)):
            by_colour.setdefault(str(point.colour), []).append((number, place, point))
        for rank, colour in enumerate(colours):
            shift = 0.0 if is_scale else 0.14 * (rank - (len(colours) - 1) / 2) / max(len(colours) / 5, 1)
            _draw(
                axes, by_colour[str(colour)], shift, _colour(rank, colours), joined=is_scale and not of_search,
                label=f" {_name(colour)}",
            )  # fmt: skip
        if colour_key is not None and 1 < len(colours) <= MAX_COLOURS:
            title = plain_text(colour_key, 2 * LONGEST_NAME)
            figure.legend(title=title, frameon=False, loc="outside right upper")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    svg = buffer.getvalue()

    def titled(found: re.Match[str]) -> str:
        point = points[int(found[1])]
        said = f"{point.run}: {key}={point.value}, {metric}={point.metric:.5g}"
        return f'<g class="run"><title>{html.escape(said)}</title>'

    return re.sub(r'<g id="run-(\d+)">', titled, svg[svg.index("<svg") :])


def _draw(
    axes: Axes, own: Sequence[tuple[int, float, Point]], shift: float, colour: object, *, joined: bool, label: str
) -> None:
    """Draw the runs of one colour, of which each has its number among all and its place on the axis."""
    metrics: dict[float, list[float]] = {}
    for number, place, point in own:
        axes.plot(
            place + shift, point.metric, "o", color=colour, alpha=0.6, markersize=5, gid=f"run-{number}",
            label="_" if metrics else label,  # one of them is in the legend
        )  # fmt: skip
        metrics.setdefault(place, []).append(point.metric)
    means = {place: mean(values) for place, values in sorted(metrics.items()) if joined or len(values) > 1}
    if not means:
        return
    spread = [stdev(metrics[place]) if len(metrics[place]) > 1 else 0.0 for place in means]
    axes.errorbar(
        [place + shift for place in means], list(means.values()), spread, color=colour, capsize=3, linewidth=1.2,
        linestyle="-" if joined else "none", marker="_", markersize=11,
    )  # fmt: skip


def _axis(axes: Axes, values: Sequence[object], *, logarithmic: bool) -> tuple[list[float], bool]:
    """Prepare the axis for values; return where each lies, and whether they are numbers on a scale."""
    numbers = [number for value in values if (number := as_number(value)) is not None]
    if len(numbers) < len(values):
        names = sorted({str(value): value for value in values}.values(), key=in_order)
        where = {str(value): float(place) for place, value in enumerate(names)}
        axes.set_xticks(list(where.values()), [_name(value) for value in names])
        axes.set_xlim(-0.5, len(names) - 0.5)
        if len(names) > MAX_TICKS // 2:
            axes.tick_params(axis="x", labelrotation=30)
        return [where[str(value)] for value in values], False
    distinct = sorted(set(numbers))
    if distinct[0] > 0 and (logarithmic or distinct[-1] / distinct[0] >= LOGARITHMIC):
        axes.set_xscale("log")
    if len(distinct) <= MAX_TICKS:
        axes.set_xticks(distinct, [f"{number:g}" for number in distinct])
        axes.set_xticks([], minor=True)
    axes.margins(x=0.1)
    return numbers, True


def _colour(rank: int, colours: Sequence[object]) -> object:
    """Return the colour of a value: one of a scale for numbers and for many values, else one of its own."""
    if len(colours) > MAX_COLOURS or (len(colours) > 1 and all(as_number(value) is not None for value in colours)):
        return colormaps["viridis"](0.9 * rank / (len(colours) - 1))
    return colormaps["tab10"](rank)


def _name(value: object) -> str:
    number = as_number(value)
    return plain_text("null" if value is None else str(value) if number is None else f"{number:g}", LONGEST_NAME)
