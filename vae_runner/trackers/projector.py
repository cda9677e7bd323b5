"""TensorBoard's projector: embeddings of test images, each with its class and the image itself, to be turned about."""

import io
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_runner.errors import printable
from vae_runner.figures.trained import Trained
from vae_runner.files.atomic import write_atomic
from vae_runner.storage.names import RunPaths

EMBEDDINGS = 2000  # fewer where the latent is large:
MAX_NUMBERS = 2_000_000  # of all embeddings together, which the browser reads as text
LEAST_DIMENSIONS = 3  # of fewer, the projector draws nothing
THUMBNAIL = 32  # pixels of the longer side, at most

CONFIG = """\
embeddings {{
  tensor_name: "embeddings"
  tensor_path: "projector/embeddings.tsv"
{metadata}  sprite {{
    image_path: "projector/thumbnails.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""
METADATA = '  metadata_path: "projector/labels.tsv"\n'


def write_projector(directory: RunPaths, trained: Trained) -> None:
    """Write the embeddings of the first 2,000 test images, their classes where they have any, and the images.

    Latents of fewer than three dimensions get zeros as the others. The projector finds the files by
    `projector_config.pbtxt` in a folder of event files.
    """
    means = trained.posterior["mean"]
    means = means.reshape(len(means), -1)
    if (lacking := LEAST_DIMENSIONS - means.shape[1]) > 0:
        means = np.pad(means, ((0, 0), (0, lacking)))
    count = max(min(EMBEDDINGS, len(means), MAX_NUMBERS // means.shape[1]), 1)
    lines = ("\t".join(f"{value:.5g}" for value in row) for row in means[:count].tolist())
    write_atomic(directory.projector_file("embeddings.tsv"), _text(lines))
    images = trained.test.first(count)
    if images.labels is not None:
        names = (" ".join(trained.class_name(int(label)).split()) for label in images.labels)
        write_atomic(directory.projector_file("labels.tsv"), _text(names))
    thumbnails = _thumbnails(np.asarray(images.images))
    buffer = io.BytesIO()
    Image.fromarray(_sprite(thumbnails)).save(buffer, "PNG")
    write_atomic(directory.projector_file("thumbnails.png"), buffer.getvalue())
    height, width = thumbnails.shape[1:3]
    metadata = "" if images.labels is None else METADATA
    write_atomic(directory.projector_config, CONFIG.format(metadata=metadata, width=width, height=height).encode())


def _text(lines: Iterable[str]) -> bytes:
    return printable("".join(f"{line}\n" for line in lines)).encode()


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images `[n, height, width, channels]` no larger than thumbnails; grey ones as `[n, height, width]`."""
    if images.shape[3] == 1:
        images = images[..., 0]
    longer = max(images.shape[1:3])
    if longer <= THUMBNAIL:
        return images
    width, height = (max(round(side * THUMBNAIL / longer), 1) for side in (images.shape[2], images.shape[1]))
    return np.stack([np.asarray(Image.fromarray(i).resize((width, height), Image.Resampling.BOX)) for i in images])


def _sprite(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images `[n, height, width, …]` row by row in one of as many rows as columns, the last ones black."""
    side = math.ceil(math.sqrt(len(images)))
    places = np.zeros((side * side, *images.shape[1:]), np.uint8)
    places[: len(images)] = images
    height, width, *channels = images.shape[1:]
    grid = places.reshape(side, side, height, width, *channels).swapaxes(1, 2)
    return grid.reshape(side * height, side * width, *channels)
