"""Images that belong to no dataset, prepared for the networks of a run as those of its dataset were."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_runner.config import registry
from vae_runner.config.instantiation import keys_of
from vae_runner.config.registry import Built
from vae_runner.datasets.binarization import drawn, threshold
from vae_runner.datasets.io.preprocessing import Preprocessing
from vae_runner.datasets.io.resizing import PADDED
from vae_runner.datasets.schema import FolderConfig, IdxConfig

WHITE = "white"  # the background of a folder whose YAML names none
BLACK = "black"  # of datasets that are no folders: the one that digits, clothes and sprites have
DRAWN_AS = 4  # the number of a split that no dataset has, for which binary images are drawn


@dataclass(frozen=True)
class Preparation:
    """What a run did to the images that it was trained on, up to what its encoder is given."""

    preprocessing: Preprocessing
    binarize: str

    @classmethod
    def of(cls, part: Built | Mapping[str, object], image_shape: tuple[int, int, int]) -> "Preparation":
        """Return what the `dataset` of a run's configuration says, whose networks are for images of this shape.

        The images of a folder have a background and may be cropped; those of any other dataset were not in files, so
        files are given their size and channels, on black. Under `dataset.image_size=32` MNIST gets a border, as LeNet
        had it, and so do files of its own size.
        """
        keys = keys_of(part)
        component = registry.by_target(keys.get("_target_"))
        schema = component.schema if component else Built
        *size, channels = image_shape
        if issubclass(schema, FolderConfig):
            preprocessing = Preprocessing.parse(size, channels, keys.get("background", WHITE), bool(keys.get("crop")))
        else:
            kind = _Padding if issubclass(schema, IdxConfig) else Preprocessing
            preprocessing = kind.parse(size, channels, BLACK, crop=False)
        return cls(preprocessing, str(keys.get("binarize", "none")))

    def binary(self, images: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images uint8 `[n, height, width, channels]` in black and white, where the run's were, else themselves.

        Where they are drawn, a draw is a function of an image's place, `places` `[n]`, among all that are prepared.
        Images in black and white already stay as they are.
        """
        if self.binarize == "none":
            return images
        return threshold(images, places) if self.binarize == "threshold" else drawn(images, places, DRAWN_AS)


class _Padding(Preprocessing):
    """A preprocessing that gives images of some sizes a black border, instead of resizing them."""

    def _convert(self, image: Image.Image) -> Image.Image:
        height, width = image.height, image.width
        if not PADDED.get((height, width)) == self.height == self.width:
            return super()._convert(image)
        own = Preprocessing(height, width, self.channels, self.background, self.crop)._convert(image)
        padded = Image.new(own.mode, (self.width, self.height))
        padded.paste(own, ((self.width - width) // 2, (self.height - height) // 2))
        return padded
