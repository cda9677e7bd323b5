"""The interface of a prior."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Family
from vae_runner.errors import UserError


class PosteriorFamily(Protocol):
    """What a prior may ask of the posterior's family."""

    has_density: bool
    has_density_everywhere: bool

    def z_shape(self, latent: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one z as the decoder is given it; `latent` is `(latent dimensions,)`."""

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Distribution:
        """Return the distributions over z that parameters `[batch, …]` describe."""


@runtime_checkable
class CodeFamily(PosteriorFamily, Protocol):
    """What a prior over codes may ask of the posterior's family."""

    codes: int

    def positions(self, z_size: int) -> int:
        """Return how many codes a z of `z_size` numbers is."""

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the z, float32 `[batch, dimensions]`, that stands for codes, int32 `[batch, positions]`."""

    def one_hots(self, z: tf.Tensor) -> tf.Tensor:
        """Return one-hots, float32 `[batch, positions, codes]`, of the codes that z `[batch, dimensions]` stand for."""


def code_family(posterior: PosteriorFamily, name: str) -> CodeFamily:
    """Return the posterior's family, which has codes.

    Raises:
        UserError: it has none, and `prior=name` needs them.
    """
    if not isinstance(posterior, CodeFamily):
        raise UserError(f"prior={name} needs a posterior of codes: choose posterior=vq, fsq or gumbel")
    return posterior


class Encoding(Protocol):
    """What a prior may ask of the autoencoder that it belongs to."""

    @property
    def posterior(self) -> PosteriorFamily:
        """Return the family of the posteriors q(z|x)."""

    @property
    def latent(self) -> int:
        """Return the number of latent dimensions."""

    def parameters(
        self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False
    ) -> dict[str, tf.Tensor]:
        """Return the parameters of q(z|x) for float32 images `[batch, height, width, channels]`."""


class Prior(Family):
    """A distribution p(z), which may depend on labels and on the encoder."""

    symbol: str  # its formula, for the titles of figures
    needs_labels: bool = False  # whether it has a distribution for each class
    components: int = 0  # how many distributions its density compares each z with, where it is a mixture
    encoded_images: int = 0  # how many images of its own are encoded in each step, like pseudo-inputs

    @property
    def description(self) -> str:
        """Return its name in the titles of figures: the formula, unless a prior has words for itself."""
        return self.symbol

    def create_weights_for(
        self,
        posterior: PosteriorFamily,
        image_shape: tuple[int, int, int],
        latent_shape: tuple[int, ...],
        classes: int,
    ) -> None:
        """Create the weights: by `create_weights`, unless their shapes depend on the posterior, which has its own."""
        self.create_weights(image_shape, latent_shape, classes)

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> Distribution:
        """Return the distribution over z; where it depends on the class, one for each of `labels`, int64 `[batch]`."""
        raise NotImplementedError
