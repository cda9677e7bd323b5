"""The distance of the codes of all images from the prior, measured with a kernel."""

from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.codes import UniformCodes
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.losses.base import Batch, Loss, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the mean squared distance of two draws of the prior


@dataclass(frozen=True)
class MeanDiscrepancy(Loss):
    """reconstruction + kl_weight · KL + mmd_weight · MMD²(q(z), p(z)), with one z an image.

    Without the KL term it is a Wasserstein autoencoder (Tolstikhin et al., 2018: WAE-MMD), also of a posterior that is
    a point; with it an InfoVAE (Zhao et al., 2019, equation 6: kl_weight is 1 − α, mmd_weight α + λ − 1). MMD² is the
    unbiased estimate, which may be negative.
    """

    reconstruction_weight: float | None = None
    kl_weight: float = 0.0
    mmd_weight: float = 10.0
    kernel: str = "imq"

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of its terms: `kl` only where it has a weight."""
        return ("reconstruction", *(("kl",) if self.kl_weight else ()), "mmd")

    @property
    def needs_density(self) -> bool:
        """Return whether it takes the KL divergence."""
        return self.kl_weight != 0

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `kl` and `mmd` without their weights."""
        posterior = posterior_of(autoencoder, batch, training)
        prior = autoencoder.latent_prior(batch.labels)
        z = posterior.sample(batch.noise)
        likelihood = autoencoder.decode(z, batch.labels, training)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        distance = mean_squared_distance(prior, z.shape[1])
        discrepancy = squared_mmd(batch.gather(z), batch.gather(prior.sample(batch.noise)), self.kernel, distance)
        loss, terms = reconstruction + self.mmd_weight * discrepancy, {}
        if self.kl_weight:
            terms["kl"] = tf.reduce_mean(kl_divergence(posterior, prior, z))
            loss += self.kl_weight * terms["kl"]
        return loss, {"reconstruction": reconstruction, **terms, "mmd": discrepancy}


def mean_squared_distance(prior: Distribution, dimensions: int) -> float | tf.Tensor:
    """Return the mean of ‖z − z′‖² over two draws: exact for the sphere and uniform codes, for others as of N(0, I).

    It is twice the sum of the variances of all dimensions, and of each position of uniform codes the same.
    """
    if isinstance(prior, UniformCodes):
        of_position = prior.embed(tf.range(prior.codes)[:, tf.newaxis])
        return 2.0 * prior.positions * tf.reduce_sum(tf.math.reduce_variance(of_position, axis=0))
    return 2.0 if isinstance(prior, UniformOnSphere) else 2.0 * dimensions


def squared_mmd(x: tf.Tensor, y: tf.Tensor, kernel: str, distance: float | tf.Tensor) -> tf.Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy of two samples `[n, dimensions]`: a scalar.

    Samples of one draw each have no such estimate; for them 0 is returned.

    Gretton et al. (2012), equation 3: the mean kernel of two different x, plus that of two different y, minus twice
    that of an x and a y. "imq" is Σ c / (c + ‖x − y‖²) over `SCALES` c, and "rbf" Σ exp(−‖x − y‖² / c), both in
    units of `distance`, the mean squared distance of two draws of the prior.
    """
    count = tf.cast(tf.shape(x)[0], tf.float32)

    def kernels(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        distances = tf.reduce_sum(tf.math.squared_difference(a[:, tf.newaxis], b), axis=2) / distance
        each = [scale / (scale + distances) if kernel == "imq" else tf.exp(-distances / scale) for scale in SCALES]
        return tf.add_n(each)

    def mean_of_different(kernel_values: tf.Tensor) -> tf.Tensor:
        without_diagonal = tf.reduce_sum(kernel_values) - tf.linalg.trace(kernel_values)
        return without_diagonal / tf.maximum(count * (count - 1), 1)

    between = tf.reduce_mean(kernels(x, y))
    squared = mean_of_different(kernels(x, x)) + mean_of_different(kernels(y, y)) - 2 * between
    return tf.where(count > 1, squared, 0.0)
