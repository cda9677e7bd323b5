"""The loss of autoencoders whose codes come from a codebook."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.codes import Quantized
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.errors import UserError
from vae_runner.losses.base import Batch, Loss, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class VectorQuantized(Loss):
    """reconstruction + KL + codebook_weight · ‖sg(e) − c‖² + commitment_weight · ‖e − sg(c)‖².

    Here e is what the encoder gives for a position, c the vector of its code, and sg stops the gradient (van den Oord
    et al., 2017, equation 3). Squares are summed over the channels and averaged over positions. A codebook of moving
    averages needs no loss, and its term is left out. With all codes equally likely the KL divergence is the constant
    positions · log(codes), and with learned probabilities −log of those of the codes, which trains the probabilities
    alone. Either makes reconstruction + KL a bound on −log p(x) where the likelihood is a density.
    """

    reconstruction_weight: float | None = None
    codebook_weight: float = 1.0
    commitment_weight: float = 0.25

    terms: ClassVar = ("reconstruction", "kl", "quantization")

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `quantization` is the squared error, without a weight.

        Raises:
            UserError: the posterior has no codebook.
        """
        q = posterior_of(autoencoder, batch, training)
        quantization, term = quantization_loss(autoencoder, q, self.codebook_weight, self.commitment_weight)
        prior = autoencoder.latent_prior(batch.labels)
        likelihood = autoencoder.decode(q.mean, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        kl = tf.reduce_mean(kl_divergence(q, prior, q.mean))
        loss = reconstruction + kl + quantization
        return loss, {"reconstruction": reconstruction, "kl": kl, "quantization": term}


def quantization_loss(
    autoencoder: Autoencoder, q: Distribution, codebook_weight: float, commitment_weight: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the errors between positions and their vectors as `VectorQuantized` weighs them, and without a weight.

    Both are scalars, means over images and positions.

    Raises:
        UserError: the posterior has no codebook.
    """
    if not isinstance(q, Quantized):
        raise UserError("this loss needs a posterior with a codebook: choose posterior=vq")

    def error(embedding: tf.Tensor, nearest: tf.Tensor) -> tf.Tensor:
        squares = tf.reduce_sum(tf.math.squared_difference(embedding, nearest), axis=1)
        return tf.reduce_mean(squares) / q.codes.shape[1]

    commitment = error(q.embedding, tf.stop_gradient(q.nearest))
    loss = commitment_weight * commitment
    if autoencoder.posterior.trainable_variables:
        loss += codebook_weight * error(tf.stop_gradient(q.embedding), q.nearest)
    return loss, commitment
