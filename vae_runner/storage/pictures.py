"""Figures as PNG files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vae_runner.files.atomic import write_atomic

if TYPE_CHECKING:  # The commands import this before they import Matplotlib.
    from matplotlib.figure import Figure

DPI = 150
COMPRESSION = 3  # of PNG files, 1 … 9


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG file, atomically; raise UnwritableError where that fails."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    shown_dpi = figure.dpi
    figure.dpi = DPI
    # The pixels of figure.savefig, which draws a figure of this layout twice, to the same effect, and compresses for
    # twice as long to save an eighth of the file.
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": COMPRESSION})  # type: ignore[no-untyped-call]
    figure.dpi = shown_dpi
    write_atomic(path, buffer.getvalue())
