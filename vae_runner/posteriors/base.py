"""The interface of a posterior."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Family, Noise

Shape = tuple[int, ...]


class Posterior(Family):
    """A family of distributions q(z|x)."""

    has_density: bool  # whether its distributions have a log-density, which a KL term needs
    has_density_everywhere: bool = True  # whether at any z; else only at the last draw

    def z_shape(self, latent: Shape) -> Shape:
        """Return the shape of one z as the decoder is given it; `latent` is `(latent dimensions,)`."""
        return latent

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return by name the shapes of what an encoder must give for one image; `latent` is `(latent dimensions,)`."""
        raise NotImplementedError

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Distribution:
        """Return the distribution over z, one for each image, that parameters `[batch, …]` describe."""
        raise NotImplementedError

    def fitted(
        self, distribution: Distribution, noise: Noise, epoch: tf.Tensor, gather: Callable[[tf.Tensor], tf.Tensor]
    ) -> Distribution:
        """Return the distribution that a training step draws z from, after `epoch` epochs.

        That is `distribution` itself, unless training relaxes it, or fits weights to the batch that no optimizer moves.
        `gather` takes `[images of this replica, …]` and returns the values of all replicas, `[images of the batch, …]`.
        """
        return distribution


class CodePosterior(Posterior):
    """A family of distributions over codes: at each position of z, one of finitely many vectors."""

    codes: int  # how many there are

    def positions(self, z_size: int) -> int:
        """Return how many codes a z of `z_size` numbers is."""
        raise NotImplementedError

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the z, float32 `[batch, dimensions]`, that stands for codes, int32 `[batch, positions]`."""
        raise NotImplementedError

    def one_hots(self, z: tf.Tensor) -> tf.Tensor:
        """Return one-hots, float32 `[batch, positions, codes]`, of the codes that z `[batch, dimensions]` stand for.

        Relaxed draws have what they consist of in place of one-hots. A prior that weighs codes asks for this.
        """
        raise NotImplementedError
