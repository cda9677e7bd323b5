"""What every likelihood offers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from vae_runner.distributions.family import Family


class PixelParameter(NamedTuple):
    """What a decoder must give for each pixel: so many channels, from a layer with this activation of Keras's."""

    channels: int
    activation: str | None = None


class Likelihood(Family):
    """A family of distributions p(x|z) over images."""

    weight: float = 1.0  # of the reconstruction term, where the loss names no other
    measure: str | None  # "binary", "levels", "unit interval": with respect to what it is a density; None: it is none

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return what a decoder must give for images of so many channels, by name."""
        raise NotImplementedError

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Any:
        """Return the distribution over images that parameters `[batch, height, width, …]` describe.

        It has a `mean`, the image that is shown, and `log_prob(images)` `[batch]` in nats; one without a measure has
        `error(images)` `[batch]` in its place. Images are float32 in [0, 1].
        """
        raise NotImplementedError
