"""A reconstruction from codes, and a discriminator of patches that asks for its details."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.losses.base import Batch
from vae_runner.losses.patch_gan import PatchGan
from vae_runner.losses.vector_quantized import quantization_loss
from vae_runner.models.autoencoder import Autoencoder


@dataclass(eq=False)
class VqGan(PatchGan):
    """The loss of `PatchGan`, with the errors of a codebook in place of the KL term (Esser et al., 2021, equation 6).

    They are those of `VectorQuantized`.
    """

    codebook_weight: float = 1.0
    commitment_weight: float = 0.25

    @property
    def latent_terms(self) -> tuple[str, ...]:
        """Return the name of the term of z."""
        return ("quantization",)

    def latent_loss(
        self, autoencoder: Autoencoder, batch: Batch, posterior: Distribution, z: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the errors of the codebook, weighted and not.

        Raises:
            UserError: the posterior has no codebook.
        """
        loss, term = quantization_loss(autoencoder, posterior, self.codebook_weight, self.commitment_weight)
        return loss, {"quantization": term}
