"""The interface of a prior."""

from typing import Protocol

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Family


class Encoding(Protocol):
    """What a prior may ask of the autoencoder that it belongs to."""

    @property
    def latent(self) -> int:
        """Return the number of latent dimensions."""

    def encode(self, images: tf.Tensor, labels: tf.Tensor | None = None, training: bool = False) -> Distribution:
        """Return the posterior q(z|x) of float32 images `[batch, height, width, channels]`."""


class Prior(Family):
    """A distribution p(z), which may depend on labels and on the encoder."""

    symbol: str  # its formula, for the titles of figures
    needs_labels: bool = False  # whether it is another distribution for each class
    encoded_images: int = 0  # how many images the encoder passes over to make it, in each step

    @property
    def description(self) -> str:
        """Return what titles of figures call it in words: its formula, where a prior says nothing else."""
        return self.symbol

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> Distribution:
        """Return the distribution over z; for images of these classes (int64 `[batch]`) where it depends on them."""
        raise NotImplementedError
