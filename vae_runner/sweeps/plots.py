"""Scatter plots for a page, as SVG."""

import html
import math
from collections.abc import Sequence

from vae_runner.files.untrusted import is_number

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 28, 40
TICKS = 4


def scatter(key: str, metric: str, points: Sequence[tuple[object, float, str]]) -> str:
    """Return an SVG of `metric` over `key`; a point is a value of the key, the metric, and a name for the pointer.

    The axis of numbers is logarithmic if they span more than a factor of 30; other values stand side by side, sorted.
    """
    places, labels = _axis([value for value, _, _ in points])
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
    span = (high - low) or 1.0
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f'<text x="{LEFT}" y="16" class="name">{html.escape(metric)} over {html.escape(key)}</text>',
    ]
    for i in range(TICKS + 1):
        tick = low + span * i / TICKS
        y = _y((tick - low) / span)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for place, label in labels:
        parts.append(
            f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{html.escape(label)}</text>'
        )
    for place, (value, y_value, name) in zip(places, points, strict=True):
        title = html.escape(f"{name}: {key}={value}, {metric}={y_value:.5g}")
        x, y = _x(place), _y((y_value - low) / span)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>')
    return "".join([*parts, "</svg>"])


def _axis(values: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return where each value lies between 0 and 1, and the places and texts of the labels."""
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and is_number(value)]
    if len(numbers) == len(values):
        distinct = sorted(set(numbers))
        scale = math.log if distinct[0] > 0 and distinct[-1] / distinct[0] > 30 else float
        low, span = scale(distinct[0]), (scale(distinct[-1]) - scale(distinct[0])) or 1.0
        shown = distinct if len(distinct) <= TICKS + 1 else [distinct[0], distinct[-1]]
        return [(scale(x) - low) / span for x in numbers], [((scale(x) - low) / span, f"{x:g}") for x in shown]
    names = sorted({str(value) for value in values})
    where = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
    return [where[str(value)] for value in values], [(where[name], name[:16]) for name in names]


def _x(share: float) -> float:
    return LEFT + 10 + share * (WIDTH - LEFT - RIGHT - 20)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
