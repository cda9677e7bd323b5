"""The Kullback-Leibler divergence KL(q ‖ p) of two distributions, in nats."""

import math
from collections.abc import Callable

import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.codes import Categorical, Quantized, RelaxedCategorical, UniformCodes, WeighedCodes
from vae_runner.distributions.full_gaussian import FullGaussian
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.distributions.laplace import Laplace
from vae_runner.distributions.sphere import PowerSpherical, UniformOnSphere


def kl_divergence(q: Distribution, p: Distribution, z: tf.Tensor) -> tf.Tensor:
    """Return KL(q ‖ p), `[batch]`: by the closed form of the pair, else log q(z) − log p(z) for draws `z` of q."""
    if closed_form := JOINT.get((type(q), type(p))):
        return closed_form(q, p)
    by_dimension = kl_by_dimension(q, p)
    return q.log_prob(z) - p.log_prob(z) if by_dimension is None else tf.reduce_sum(by_dimension, axis=1)


def has_closed_form(q: Distribution, p: Distribution) -> bool:
    """Return whether `kl_divergence` of the pair is exact, and needs no draws."""
    return (type(q), type(p)) in JOINT or (type(q), type(p)) in FACTORISED


def kl_by_dimension(q: Distribution, p: Distribution) -> tf.Tensor | None:
    """Return KL(q ‖ p) of each latent dimension, `[batch, latent]`; None for a pair that is not in `FACTORISED`."""
    closed_form = FACTORISED.get((type(q), type(p)))
    return None if closed_form is None else closed_form(q, p)


def _gaussian_standard_normal(q: DiagonalGaussian, p: StandardNormal) -> tf.Tensor:
    """Return −½ (1 + log_var − mean² − exp(log_var)) (Kingma & Welling, 2014, appendix B)."""
    return -0.5 * (1 + q.log_var - tf.square(q.mean) - tf.exp(q.log_var))


def _gaussian_gaussian(q: DiagonalGaussian, p: DiagonalGaussian) -> tf.Tensor:
    """Return ½ ((var_q + (mean_q − mean_p)²) / var_p − 1 + log var_p − log var_q)."""
    square = (tf.exp(q.log_var) + tf.math.squared_difference(q.mean, p.mean)) * tf.exp(-p.log_var)
    return 0.5 * (square - 1 + p.log_var - q.log_var)


def _laplace_standard_normal(q: Laplace, p: StandardNormal) -> tf.Tensor:
    """Return ½ log 2π − 1 − log 2 − log_scale + ½ mean² + scale²: minus q's entropy, minus its mean of log p."""
    cross_entropy = 0.5 * (math.log(2 * math.pi) + tf.square(q.mean)) + tf.exp(2 * q.log_scale)
    return cross_entropy - 1 - math.log(2) - q.log_scale


def _laplace_gaussian(q: Laplace, p: DiagonalGaussian) -> tf.Tensor:
    """Return the divergence of both after a change of coordinates in which p is N(0, I)."""
    whitened = Laplace((q.mean - p.mean) * tf.exp(-p.log_var / 2), q.log_scale - p.log_var / 2)
    return _laplace_standard_normal(whitened, StandardNormal(int(q.mean.shape[1])))


def _full_gaussian_standard_normal(q: FullGaussian, p: StandardNormal) -> tf.Tensor:
    """Return ½ (‖scale‖² + ‖mean‖² − dimensions) − Σ log diag(scale)."""
    trace = tf.reduce_sum(tf.square(q.scale), axis=[1, 2])
    return 0.5 * (trace + tf.reduce_sum(tf.square(q.mean), axis=1) - p.dimensions) - q.log_volume()


def _full_gaussian_gaussian(q: FullGaussian, p: DiagonalGaussian) -> tf.Tensor:
    """Return the divergence of both after a change of coordinates in which p is N(0, I)."""
    inverse_deviation = tf.exp(-p.log_var / 2)
    whitened = FullGaussian((q.mean - p.mean) * inverse_deviation, q.scale * inverse_deviation[..., tf.newaxis])
    return _full_gaussian_standard_normal(whitened, StandardNormal(int(q.mean.shape[1])))


def _power_spherical_uniform(q: PowerSpherical, p: UniformOnSphere) -> tf.Tensor:
    """Return the logarithm of the sphere's area minus q's entropy (De Cao & Aziz, 2020, equation 14)."""
    return p.log_area - q.entropy()


def _quantized_uniform(q: Quantized, p: UniformCodes) -> tf.Tensor:
    """Return positions · log(codes): q chooses its codes for certain."""
    return -p.log_prob(q.nearest)


def _categorical_uniform(q: Categorical, p: UniformCodes) -> tf.Tensor:
    """Return variables · log(categories) minus q's entropy. It is that of the categories, relaxed or not."""
    return p.entropy() - q.entropy()


def _quantized_weighed(q: Quantized, p: WeighedCodes) -> tf.Tensor:
    """Return minus the logarithm of the codes' probability: q chooses them for certain, and p alone has a gradient."""
    positions, codes = p.logits.shape
    in_a_row = q.codes + codes * tf.range(positions)
    return -tf.reduce_sum(tf.gather(tf.reshape(p.log_probs, [-1]), in_a_row), axis=1)


def _categorical_weighed(q: Categorical, p: WeighedCodes) -> tf.Tensor:
    """Return Σ q (log q − log p) over variables and categories. It is that of the categories, relaxed or not."""
    return -tf.reduce_sum(tf.nn.softmax(q.logits) * p.log_probs, axis=[1, 2]) - q.entropy()


# Closed forms, `[batch, latent]`, for pairs of distributions whose dimensions are independent.
FACTORISED: dict[tuple[type, type], Callable[..., tf.Tensor]] = {
    (DiagonalGaussian, StandardNormal): _gaussian_standard_normal,
    (DiagonalGaussian, DiagonalGaussian): _gaussian_gaussian,
    (Laplace, StandardNormal): _laplace_standard_normal,
    (Laplace, DiagonalGaussian): _laplace_gaussian,
}
# Closed forms, `[batch]`, for other pairs.
JOINT: dict[tuple[type, type], Callable[..., tf.Tensor]] = {
    (FullGaussian, StandardNormal): _full_gaussian_standard_normal,
    (FullGaussian, DiagonalGaussian): _full_gaussian_gaussian,
    (PowerSpherical, UniformOnSphere): _power_spherical_uniform,
    (Quantized, UniformCodes): _quantized_uniform,
    (Categorical, UniformCodes): _categorical_uniform,
    (RelaxedCategorical, UniformCodes): _categorical_uniform,
    (Quantized, WeighedCodes): _quantized_weighed,
    (Categorical, WeighedCodes): _categorical_weighed,
    (RelaxedCategorical, WeighedCodes): _categorical_weighed,
}
