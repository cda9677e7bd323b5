"""The interface of a posterior."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Family

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
