"""The KL term in three parts: what z knows of the image, what its dimensions share, and each one's divergence."""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import tensorflow as tf

from vae_runner.distributions.base import Factorised
from vae_runner.losses.base import Batch, Loss, factorised_posterior, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class TotalCorrelation(Loss):
    """reconstruction + α · mutual information + β · total correlation + γ · dimensions' KL.

    That is the β-TCVAE (Chen et al., 2018, equation 4). The three add up to the KL term. They need q(z), the mean of
    the posteriors of the split's images, which is estimated from a batch: "stratified" by weights with which q(z) is
    right in the mean, or "weighted" by equal weights, as in the paper, with which the mutual information of B of N
    images is too large by log B to log N, and the total correlation by up to dimensions · log N − log B.
    """

    reconstruction_weight: float | None = None
    mutual_information_weight: float = 1.0
    total_correlation_weight: float = 6.0
    dimension_kl_weight: float = 1.0
    estimator: str = "stratified"

    terms: ClassVar = ("reconstruction", "kl", "mutual_information", "total_correlation", "dimension_kl")
    needs_density: ClassVar = True

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `reconstruction` with its weight, the others without."""
        posterior = factorised_posterior(autoencoder, batch, training)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        log_q, log_marginals = self.aggregated_log_probs(posterior, z, batch)
        log_given_image = posterior.log_prob(z)
        log_product = tf.reduce_sum(log_marginals, axis=1)
        log_prior = autoencoder.latent_prior(batch.labels).log_prob(z)
        mutual_information = tf.reduce_mean(log_given_image - log_q)
        total_correlation = tf.reduce_mean(log_q - log_product)
        dimension_kl = tf.reduce_mean(log_product - log_prior)
        loss = (
            reconstruction
            + self.mutual_information_weight * mutual_information
            + self.total_correlation_weight * total_correlation
            + self.dimension_kl_weight * dimension_kl
        )
        return loss, {
            "reconstruction": reconstruction, "kl": tf.reduce_mean(log_given_image - log_prior),
            "mutual_information": mutual_information, "total_correlation": total_correlation,
            "dimension_kl": dimension_kl,
        }  # fmt: skip

    def aggregated_log_probs(self, posterior: Factorised, z: tf.Tensor, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Return estimates of log q(z), `[images]`, and of log q(z_j) for each dimension, `[images, latent]`."""
        every = {field.name: batch.gather(getattr(posterior, field.name)) for field in fields(posterior)}
        of_all = type(posterior)(**{name: value[tf.newaxis] for name, value in every.items()})
        pairwise = of_all.log_prob_by_dimension(z[:, tf.newaxis])  # of image i's z under image j's posterior
        log_weights = self._log_weights(batch, tf.shape(pairwise, tf.int64))
        log_q = tf.reduce_logsumexp(log_weights + tf.reduce_sum(pairwise, axis=2), axis=1)
        return log_q, tf.reduce_logsumexp(log_weights[..., tf.newaxis] + pairwise, axis=1)

    def _log_weights(self, batch: Batch, shape: tf.Tensor) -> tf.Tensor:
        """Return the logarithms of the weights of the posteriors in q(z), one row for each z.

        The image's own posterior has 1/N of the weight, as in the mean over all N images of the split; the others share
        the rest. Where there are no others it has all of it.
        """
        images, total = shape[0], shape[1]
        size = float(batch.split_size)
        if self.estimator == "weighted":
            return tf.fill([images, total], -math.log(size) - tf.math.log(tf.cast(total, tf.float32)))
        others = tf.cast(tf.maximum(total - 1, 1), tf.float32)
        own = tf.range(total)[tf.newaxis] == (tf.cast(batch.first, tf.int64) + tf.range(images))[:, tf.newaxis]
        log_own = tf.where(total == 1, 0.0, -math.log(size))
        return tf.where(own, log_own, tf.math.log(max(size - 1, 1) / size / others))
