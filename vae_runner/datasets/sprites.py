"""Sprites: one white shape on black, in every size, orientation and position, drawn here (after dSprites, 2017).

A shape is drawn once for each of its sizes and orientations; an image is such a glyph at a place. What is drawn is
computed in integers once the corners are known, so that every machine has the same pixels.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.factors import grid_dataset
from vae_runner.datasets.schema import check_sprites

UNITS = 256  # that a pixel's side is divided into; corners lie on these
LINES = 16  # along which a row of pixels is measured
CURVE = 64  # corners of a curved outline
SMALLEST = Fraction(1, 2)  # scale

Outline = list[tuple[float, float]]  # corners, x to the right and y upwards


def _square() -> Outline:
    return [(1, 1), (-1, 1), (-1, -1), (1, -1)]


def _ellipse() -> Outline:
    quarter = [(math.cos(t), 0.6 * math.sin(t)) for t in _steps(math.pi / 2, CURVE // 4)[1:]]
    half = [(1.0, 0.0), *quarter, (0.0, 0.6), *((-x, y) for x, y in reversed(quarter))]
    return half + [(-x, -y) for x, y in half]


def _heart() -> Outline:
    return [
        (16 * math.sin(t) ** 3, 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        for t in _steps(2 * math.pi, CURVE)
    ]


def _arrow() -> Outline:
    return [(0, 1), (0.8, 0.1), (0.3, 0.1), (0.3, -0.9), (-0.3, -0.9), (-0.3, 0.1), (-0.8, 0.1)]


def _drop() -> Outline:
    return [(0.8 * math.sin(t) * math.sin(t / 2) ** 1.5, math.cos(t)) for t in _steps(2 * math.pi, CURVE)]


def _steps(end: float, count: int) -> list[float]:
    return [end * step / count for step in range(count)]


OUTLINES = {"heart": _heart, "arrow": _arrow, "drop": _drop, "square": _square, "ellipse": _ellipse}


def load(
    *,
    image_size: int,
    shapes: Sequence[str],
    scales: int,
    orientations: int,
    orientation_range: float = 360,
    positions_x: int,
    positions_y: int,
    limit: int | None = None,
    test_fraction: float,
    validation_fraction: float = 0.0,
) -> Dataset:
    """Return one image `[image_size, image_size, 1]` for each combination of factors, drawn when it is asked for.

    Scales are evenly spaced from 0.5 to 1, orientations from 0 up to `orientation_range` degrees without it, and
    positions as far apart as whole pixels allow. Classes are the shapes. Sizes and index order are dSprites'.
    """
    check_sprites(image_size, shapes, scales, orientations, positions_x, positions_y)
    glyphs = make_glyphs(shapes, image_size // 4, scales, orientations, orientation_range)
    xs, ys = (_offsets(count, image_size // 2) for count in (positions_x, positions_y))
    side = np.arange(glyphs.shape[1])

    def draw(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        glyph, x, y = np.unravel_index(places, (len(glyphs), len(xs), len(ys)))
        images = np.zeros((len(places), image_size, image_size), np.uint8)
        rows, columns = ys[y][:, None, None] + side[:, None], xs[x][:, None, None] + side
        images[np.arange(len(places))[:, None, None], rows, columns] = glyphs[glyph]
        return images[..., np.newaxis]

    sizes = {"shape": len(shapes), "scale": scales, "orientation": orientations, "x": positions_x, "y": positions_y}
    return grid_dataset(
        draw, (image_size, image_size, 1), sizes, label="shape", label_names=list(shapes),
        limit=limit, test_fraction=test_fraction, validation_fraction=validation_fraction,
    )  # fmt: skip


def make_glyphs(
    shapes: Sequence[str], radius: int, scales: int, orientations: int, orientation_range: float = 360
) -> NDArray[np.uint8]:
    """Return each shape in each scale and orientation: uint8 `[shapes · scales · orientations, side, side]`.

    The side is 2 `radius` + 1 pixels. The centre of gravity is in the middle, and the farthest corner, at scale 1,
    `radius` pixels away from it. Orientations are counter-clockwise.
    """
    glyphs = []
    for shape in shapes:
        outline = _normalised(OUTLINES[shape]())
        for scale in range(scales):
            size = SMALLEST + (1 - SMALLEST) * Fraction(scale, scales - 1) if scales > 1 else Fraction(1)
            for orientation in range(orientations):
                degrees = Fraction(orientation_range) * orientation / orientations
                glyphs.append(_rasterised(_corners(outline, float(size * radius), degrees), 2 * radius + 1))
    return np.stack(glyphs)


def _normalised(outline: Outline) -> NDArray[np.float64]:
    """Return corners `[corners, 2]` with the centre of gravity at 0 and the farthest at 1."""
    x, y = np.array(outline, np.float64).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    centre = [((one + np.roll(one, -1)) * cross).sum() / (3 * cross.sum()) for one in (x, y)]
    corners = np.stack([x, y], axis=1) - np.round(centre, 9)  # A symmetric shape has 0 exactly.
    return corners / np.hypot(*corners.T).max()


def _corners(outline: NDArray[np.float64], radius: float, degrees: Fraction) -> NDArray[np.int64]:
    """Return turned corners in units, `[corners, 2]`; quarter turns are exact, for shapes that look the same after."""
    quarters, rest = divmod(degrees, 90)
    angle = math.radians(rest)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = np.round((outline @ turn) * (radius * UNITS)).astype(np.int64)
    for _ in range(int(quarters) % 4):
        corners = np.stack([-corners[:, 1], corners[:, 0]], axis=1)
    return corners


def _rasterised(corners: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Return what part of each pixel is inside of the corners, times 255, uint8 `[side, side]`, the middle being 0.

    Along `LINES` lines in each row of pixels, exact on a line but for rounding to units: the part to the right of an
    edge counts for each edge that goes up, and against it for each that goes down.
    """
    middle = side * UNITS // 2
    x, y = middle + corners[:, 0], middle - corners[:, 1]
    across, down = np.roll(x, -1) - x, np.roll(y, -1) - y
    lines = np.arange(side * LINES) * (UNITS // LINES) + UNITS // LINES // 2
    low, high = np.minimum(y, y + down), np.maximum(y, y + down)
    number, edge = np.nonzero((low <= lines[:, None]) & (lines[:, None] < high))
    across, down = across[edge], down[edge]
    crossing = x[edge] + (2 * (lines[number] - y[edge]) * across + down) // (2 * down)
    right = np.clip(UNITS * np.arange(1, side + 1) - crossing[:, None], 0, UNITS) * np.sign(down)[:, None]
    covered = np.zeros((side, side), np.int64)
    np.add.at(covered, number // LINES, right)
    whole = UNITS * LINES
    return ((np.abs(covered) * 255 + whole // 2) // whole).astype(np.uint8)


def _offsets(count: int, room: int) -> NDArray[np.int64]:
    """Return `count` numbers from 0 to below `room`, the same distance apart, in the middle."""
    step = (room - 1) // (count - 1) if count > 1 else 1
    return (room - 1 - step * (count - 1)) // 2 + step * np.arange(count)
