"""The loss of a plain autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.losses import Batch
from vae_runner.losses.terms import mean_squared_error
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Ae:
    """`reconstruction_weight` × mean squared error, of the image decoded from the posterior's mean."""

    reconstruction_weight: float = 1000.0

    terms: ClassVar = ("reconstruction",)

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The scalar to minimise, and its one term: the same number."""
        z = autoencoder.encode(batch.images, training).mean
        error = mean_squared_error(batch.images, autoencoder.decode(z, training))
        reconstruction = self.reconstruction_weight * tf.reduce_mean(error)
        return reconstruction, {"reconstruction": reconstruction}
