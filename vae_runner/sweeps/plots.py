"""Plots for a page, as SVG: no more than points over an axis."""

import html
import math
from collections.abc import Sequence
from typing import Any

from vae_runner.files.untrusted import is_number

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 28, 40
TICKS = 4


def scatter(key: str, metric: str, points: Sequence[tuple[Any, float, str]]) -> str:
    """Return an SVG of `metric` over `key`; a point is its value there, the metric and a name, shown under the pointer.

    Numbers lie where they belong, on a logarithmic axis if they span more than a factor of 30; anything else side by
    side, in order.
    """
    places, labels = _axis([value for value, _, _ in points])
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
    span = (high - low) or 1.0
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f'<text x="{LEFT}" y="16" class="name">{html.escape(metric)} over {html.escape(key)}</text>',
    ]
    for i in range(TICKS + 1):
        value = low + span * i / TICKS
        y = _y((value - low) / span)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for place, label in labels:
        parts.append(
            f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{html.escape(label)}</text>'
        )
    for place, (value, y_value, name) in zip(places, points, strict=True):
        title = html.escape(f"{name}: {key}={value}, {metric}={y_value:.5g}")
        x, y = _x(place), _y((y_value - low) / span)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>')
    return "".join([*parts, "</svg>"])


def _axis(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each value lies between 0 and 1, and what is written where."""
    if all(map(is_number, values)):
        distinct = sorted(set(values))
        logarithmic = distinct[0] > 0 and distinct[-1] / distinct[0] > 30
        scaled = [math.log(value) if logarithmic else float(value) for value in values]
        low, span = min(scaled), (max(scaled) - min(scaled)) or 1.0
        shown = distinct if len(distinct) <= TICKS + 1 else [distinct[0], distinct[-1]]
        labels = [(((math.log(value) if logarithmic else value) - low) / span, f"{value:g}") for value in shown]
        return [(value - low) / span for value in scaled], labels
    names = sorted({str(value) for value in values})
    where = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
    return [where[str(value)] for value in values], [(where[name], name[:16]) for name in names]


def _x(share: float) -> float:
    return LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
