"""Figures as PNG files, and animations of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vae_runner.files.atomic import write_atomic
from vae_runner.files.untrusted import DamagedError, read, reading

if TYPE_CHECKING:  # The commands import this before they import Matplotlib.
    from matplotlib.figure import Figure

DPI = 150
COMPRESSION = 3  # of PNG files, 1 … 9
MILLISECONDS, LAST_MILLISECONDS = 200, 2000  # that a frame of an animation is shown, and its last one
MAX_FRAME_SIDE = 4096  # pixels; ours have fewer


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


def save_frame(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write a frame of an animation, uint8 `[height, width, channels]`, as a PNG file, atomically."""
    from vae_runner.files.pictures import picture_of

    buffer = io.BytesIO()
    picture_of(pixels).save(buffer, format="PNG", compress_level=COMPRESSION)
    write_atomic(path, buffer.getvalue())


def save_animation(frames: Sequence[Path], path: Path) -> None:
    """Write frames that `save_frame` has written as a GIF, which repeats; raise DamagedError where one is none."""
    from PIL import Image

    pictures = []
    for frame in frames:
        with reading():
            picture = Image.open(io.BytesIO(read(frame)), formats=["PNG"])
            if max(picture.size) > MAX_FRAME_SIDE or picture.mode not in ("L", "RGB"):
                raise DamagedError(f"{frame.name} is no frame of an animation")
            picture.load()
        pictures.append(picture)
    buffer = io.BytesIO()
    duration = [*[MILLISECONDS] * (len(pictures) - 1), LAST_MILLISECONDS]
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    write_atomic(path, buffer.getvalue())
