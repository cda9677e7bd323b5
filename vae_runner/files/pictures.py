"""Arrays of pixels as Pillow has pictures."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture_of(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels, uint8 `[height, width, channels]`, as a picture: with one channel, a grey one."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
