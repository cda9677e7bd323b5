"""The interface of a density that is fitted to the latents of a trained autoencoder."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vae_runner.distributions.base import Distribution

Latents = NDArray[np.float32]  # [n, latent]
Arrays = Mapping[str, NDArray[Any]]
Report = Callable[[float], None]  # is called now and then with the fraction of the work that is done

SMALLEST_DEVIATION = 1e-6  # of the largest one


class FittedPrior:
    """A density over z, which `fit` makes of latents, and `from_arrays` of what `arrays` returned."""

    @classmethod
    def fit(cls, latents: Latents, held_out: Latents, report: Report, components: int = 0) -> Self:
        """Return the density that fits `latents` best, as far as `held_out` ones show.

        A mixture has so many components; where these are 0, it has as many as fit best.

        Raises:
            UserError: these latents are too few for it, or have too few dimensions.
        """
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, arrays: Arrays, latent: int) -> Self:
        """Return the density that has these arrays, over so many latent dimensions.

        Raises:
            ValueError: they are not what such a density has.
        """
        raise NotImplementedError

    @property
    def arrays(self) -> Arrays:
        """Return all that it is made of, by name."""
        raise NotImplementedError

    @property
    def distribution(self) -> Distribution:
        """Return the distribution over z."""
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
