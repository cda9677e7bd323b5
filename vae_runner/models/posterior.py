"""Posteriors q(z|x): what an encoder's outputs mean.

A posterior class names the outputs it needs from the encoder in `parameters`; an object of it holds them for one batch.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import tensorflow as tf


class Posterior(Protocol):
    """What every posterior offers; `z` and all parameters are float32 `[batch, latent]`.

    One that has a `kl()` can be trained with a KL term: KL(q(z|x) ‖ N(0, I)) of each image and latent dimension, in
    nats, `[batch, latent]`.
    """

    parameters: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, outputs: dict[str, tf.Tensor]) -> Self:
        """The posterior that the encoder's named outputs describe."""

    @property
    def mean(self) -> tf.Tensor:
        """The embedding."""

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """z, from standard normal noise of its shape."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_var)))."""

    mean: tf.Tensor
    log_var: tf.Tensor

    parameters: ClassVar = ("mean", "log_var")

    @classmethod
    def of(cls, outputs: dict[str, tf.Tensor]) -> Self:
        """The posterior that the encoder's named outputs describe."""
        return cls(**outputs)

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """Mean + exp(log_var / 2) · noise: reparameterised (Kingma & Welling, 2014, section 2.4)."""
        return self.mean + tf.exp(self.log_var / 2) * noise

    def kl(self) -> tf.Tensor:
        """−½ (1 + log_var − mean² − exp(log_var)) (Kingma & Welling, 2014, appendix B), in nats: `[batch, latent]`."""
        return -0.5 * (1 + self.log_var - tf.square(self.mean) - tf.exp(self.log_var))


@dataclass(frozen=True)
class Point:
    """All mass on the mean: the code of a plain autoencoder."""

    mean: tf.Tensor

    parameters: ClassVar = ("mean",)

    @classmethod
    def of(cls, outputs: dict[str, tf.Tensor]) -> Self:
        """The posterior that the encoder's named outputs describe."""
        return cls(**outputs)

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """The mean: there is no noise to add."""
        return self.mean
