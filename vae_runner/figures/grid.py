"""Many images in one picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Images = NDArray[np.uint8] | NDArray[np.float32]  # [n, height, width, channels]; floats are in [0, 1]

CELL_INCHES = 0.85
CAPTION_INCHES = 0.17
GAP = 0.06  # of a cell
LABEL_INCHES = 0.95  # left of the rows
SMALL = 7  # points: captions and ticks
FINE = 64  # pixels: smaller images are enlarged to about this, so that gaps and captions can be placed finely


def image_grid(
    images: Images,
    columns: int,
    title: str,
    *,
    captions: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap: float = GAP,
    cell_inches: float = CELL_INCHES,
) -> Figure:
    """Draw images row by row, on white."""
    rows = -(-len(images) // columns)
    cell_height = cell_inches * images.shape[1] / images.shape[2] + (CAPTION_INCHES if captions else 0)
    width = max(columns * cell_inches + 0.2, 3.4) + (LABEL_INCHES if row_labels else 0)
    height = rows * cell_height + 0.5 + (0.2 if column_labels else 0)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    draw_grid(
        axes, images, columns, captions=captions, row_labels=row_labels, column_labels=column_labels, gap=gap,
        cell_inches=cell_inches,
    )  # fmt: skip
    figure.suptitle(title, fontsize=10)
    return figure


def draw_grid(
    axes: Axes,
    images: Images,
    columns: int,
    *,
    captions: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap: float = GAP,
    cell_inches: float = CELL_INCHES,
) -> None:
    """Draw images into axes: a caption above each image, a label left of each row and above each column."""
    enlarge = max(1, FINE // images.shape[2])
    images = images.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    space = round(gap * width)
    band = round(CAPTION_INCHES / cell_inches * width) if captions else 0
    step_y, step_x = height + band + space, width + space
    canvas = np.ones((rows * step_y - space, columns * step_x - space, channels), np.float32)
    pixels = images.astype(np.float32) / 255 if images.dtype == np.uint8 else np.clip(images, 0, 1)
    for index, image in enumerate(pixels):
        top, left = index // columns * step_y + band, index % columns * step_x
        canvas[top : top + height, left : left + width] = image
    axes.imshow(canvas if channels == 3 else canvas[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    for index, caption in enumerate(captions):
        top, left = index // columns * step_y + band, index % columns * step_x
        axes.text(left + width / 2, top - band * 0.15, caption, ha="center", va="bottom", fontsize=SMALL - 1)
    _label(axes, rows, columns, (step_y, step_x), (band + height / 2, width / 2), row_labels, column_labels)


def _label(
    axes: Axes,
    rows: int,
    columns: int,
    steps: tuple[int, int],
    centre: tuple[float, float],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
) -> None:
    axes.set_yticks([row * steps[0] + centre[0] for row in range(rows)] if row_labels else [], list(row_labels) or None)
    positions = [column * steps[1] + centre[1] for column in range(columns)] if column_labels else []
    axes.set_xticks(positions, list(column_labels) or None)
    axes.tick_params(length=0, labelsize=SMALL, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
