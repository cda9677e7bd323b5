"""The loss of a plain autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.losses.base import Batch, Loss, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Reconstruction(Loss):
    """−log p(x|z), or a pseudo-likelihood's weighted error, of the image decoded from the posterior's mean."""

    reconstruction_weight: float | None = None

    terms: ClassVar = ("reconstruction",)

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its one term: the same number."""
        z = autoencoder.encode(batch.images, batch.labels, training).mean
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight)
        return reconstruction, {"reconstruction": reconstruction}
