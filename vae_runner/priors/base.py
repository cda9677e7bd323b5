"""What every prior offers."""

from typing import Any

from vae_runner.distributions.family import Family


class Prior(Family):
    """A distribution p(z), which may depend on labels and on the networks at hand."""

    symbol: str  # how titles of figures call it

    def create_weights(self, image_shape: tuple[int, int, int], latent: int) -> None:
        """Create the weights, if there are any, for images of this shape and so many latent dimensions."""

    def distribution(self, autoencoder: Any, labels: Any = None) -> Any:
        """Return the distribution over z of an autoencoder; for images of these classes, where it tells them apart."""
        raise NotImplementedError
