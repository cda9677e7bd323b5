"""The interface of a density that is fitted to the latents of a trained autoencoder."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.base import Noise

Latents = NDArray[np.float32]  # [n, latent]
Values = NDArray[Any]  # latents, or codes, int32 [n, height, width]
Arrays = Mapping[str, NDArray[Any]]
Report = Callable[[float], None]  # is called now and then with the fraction of the work that is done

SMALLEST_DEVIATION = 1e-6  # of the largest one
MAX_NUMBERS = 50_000_000  # of what a density gives for values at once, as logits of all codes: 200 MB


class Space(NamedTuple):
    """What values a density is over."""

    shape: tuple[int, ...]  # of one of them: `(latent,)`, or height and width of a map of codes
    codes: int = 0  # how many codes there are; 0: values are no codes

    def at_once(self, most: int) -> int:
        """Return how many values to pass through a density at once, at most `most`: few maps of many codes."""
        return max(min(most, MAX_NUMBERS // (math.prod(self.shape) * max(self.codes, 1))), 1)


class Density(Protocol):
    """A distribution over values."""

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density, or of codes the log-probability, of values `[n, …]`: `[n]`, in nats."""

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return values drawn with the noise of so many images, `[images, …]`."""


class FittedPrior:
    """A density of z or of its codes, which `fit` makes of values, and `from_arrays` of what `arrays` returned."""

    of_codes: bool = False  # whether its values are codes

    @classmethod
    def fit(cls, space: Space, values: Values, held_out: Values, report: Report, components: int = 0) -> Self:
        """Return the density that fits `values` best, as far as `held_out` ones show.

        A mixture has so many components; where these are 0, it has as many as fit best.

        Raises:
            UserError: these values are too few for it, or have too few dimensions.
        """
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, space: Space, arrays: Arrays) -> Self:
        """Return the density that has these arrays.

        Raises:
            ValueError: they are not what such a density has.
        """
        raise NotImplementedError

    @property
    def arrays(self) -> Arrays:
        """Return all that it is made of, by name."""
        raise NotImplementedError

    @property
    def distribution(self) -> Density:
        """Return the distribution over values."""
        raise NotImplementedError

    @property
    def symbol(self) -> str:
        """Return its name in the titles of pictures."""
        raise NotImplementedError


class Standard(NamedTuple):
    """What shifts and scales each dimension of latents to a mean of 0 and a standard deviation of 1."""

    shift: Latents  # [latent]
    scale: Latents  # [latent]

    @classmethod
    def of(cls, latents: Latents) -> Self:
        """Return that of some latents; of a dimension in which all are the same, the density will be very narrow."""
        deviation = latents.std(axis=0, dtype=np.float64)
        scale = np.maximum(deviation, SMALLEST_DEVIATION * (deviation.max() or 1))
        return cls(latents.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32))

    def standardized(self, latents: Latents) -> Latents:
        """Return latents after it."""
        return (latents - self.shift) / self.scale


def check_arrays(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless these are finite float32 arrays of these names and shapes."""
    found = {name: array.shape for name, array in arrays.items()}
    if found != dict(shapes):
        raise ValueError(f"it has {found}, and not {dict(shapes)}")
    if wrong := [name for name, array in arrays.items() if array.dtype != np.float32 or not np.isfinite(array).all()]:
        raise ValueError(f"{wrong[0]} is not of finite float32 numbers")
