"""Images of another size, made in memory."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_runner.files.pictures import picture_of

PADDED = {(28, 28): 32}  # the size that LeNet-5 and many since have MNIST in, without another pixel of the digits


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return grey images `[n, height, width, 1]` as `[n, size, size, 1]`.

    Where `PADDED` says so they get a black border; else they are resized, linearly between pixels, and averaged where
    they become smaller.
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    made = np.zeros((len(images), size, size, 1), np.uint8)
    if PADDED.get((height, width)) == size:
        top, left = (size - height) // 2, (size - width) // 2
        made[:, top : top + height, left : left + width] = images
        return made
    for one, image in zip(made, images, strict=True):
        one[..., 0] = np.asarray(picture_of(image).resize((size, size), Image.Resampling.BILINEAR))
    return made


def smaller(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return images `[n, height, width, channels]`, grey or in colour, as `[n, size, size, channels]` (Lanczos)."""
    made = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for one, image in zip(made, images, strict=True):
        made_smaller = picture_of(image).resize((size, size), Image.Resampling.LANCZOS)
        one[...] = np.asarray(made_smaller).reshape(one.shape)
    return made
