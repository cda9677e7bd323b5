"""The Kullback-Leibler divergence KL(q ‖ p) of two distributions, in nats."""

from collections.abc import Callable

import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal


def kl_divergence(q: Distribution, p: Distribution, z: tf.Tensor) -> tf.Tensor:
    """Return KL(q ‖ p), `[batch]`: by the closed form of the pair, else log q(z) − log p(z) for draws `z` of q."""
    by_dimension = kl_by_dimension(q, p)
    return q.log_prob(z) - p.log_prob(z) if by_dimension is None else tf.reduce_sum(by_dimension, axis=1)


def kl_by_dimension(q: Distribution, p: Distribution) -> tf.Tensor | None:
    """Return KL(q ‖ p) of each latent dimension, `[batch, latent]`; None for a pair that is not in `FACTORISED`."""
    closed_form = FACTORISED.get((type(q), type(p)))
    return None if closed_form is None else closed_form(q, p)


def _gaussian_standard_normal(q: DiagonalGaussian, p: StandardNormal) -> tf.Tensor:
    """Return −½ (1 + log_var − mean² − exp(log_var)) (Kingma & Welling, 2014, appendix B)."""
    return -0.5 * (1 + q.log_var - tf.square(q.mean) - tf.exp(q.log_var))


# Closed forms, `[batch, latent]`, for pairs of distributions whose dimensions are independent.
FACTORISED: dict[tuple[type, type], Callable[..., tf.Tensor]] = {
    (DiagonalGaussian, StandardNormal): _gaussian_standard_normal,
}
