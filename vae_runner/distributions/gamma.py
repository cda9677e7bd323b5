"""Draws of Gamma and Beta distributions from a fixed number of normal and uniform ones.

A fixed number, so that they are a function of the noise that belongs to an image, and can be made where XLA compiles.
"""

from collections.abc import Callable

import tensorflow as tf

from vae_runner.distributions.base import Noise

PROPOSALS = 6  # each is accepted with a probability of at least 0.95: that none is happens once in 60 million draws


def log_gamma_sample(concentration: tf.Tensor, noise: Noise) -> tf.Tensor:
    """Return logarithms of draws of Gamma(concentration, 1), float32 `[images, …]`: differentiable.

    Marsaglia & Tsang (2000); a concentration below 1 is that plus 1, times a power of a uniform number (section 6),
    in logarithms, which do not underflow. The gradient is implicit (Figurnov et al., 2018).
    """
    shape = [int(size) for size in concentration.shape[1:]]
    is_boosted = concentration < 1
    boosted = tf.where(is_boosted, concentration + 1, concentration)
    log_gamma = tf.math.log(_gamma(boosted, noise.normal([PROPOSALS, *shape]), noise.uniform([PROPOSALS, *shape])))
    uniform = 1 - noise.uniform(shape)  # in (0, 1]
    return log_gamma + tf.where(is_boosted, tf.math.log(uniform) / tf.where(is_boosted, concentration, 1.0), 0.0)


def beta_sample(alpha: tf.Tensor, beta: tf.Tensor, noise: Noise) -> tf.Tensor:
    """Return draws of Beta(alpha, beta), float32 `[images, …]`: differentiable."""
    return tf.sigmoid(log_gamma_sample(alpha, noise) - log_gamma_sample(beta, noise))


@tf.custom_gradient
def _gamma(
    concentration: tf.Tensor, normal: tf.Tensor, uniform: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None, None]]]:
    """Return draws for concentrations of at least 1: the first proposal along axis 1 that is accepted."""
    d = tf.expand_dims(concentration - 1 / 3, 1)
    base = 1 + normal / tf.sqrt(9 * d)
    v = tf.where(base > 0, base, 1.0) ** 3
    accepted = (base > 0) & (tf.math.log(1 - uniform) < tf.square(normal) / 2 + d * (1 - v + tf.math.log(v)))
    count = tf.cumsum(tf.cast(accepted, tf.float32), axis=1)
    # Where none is accepted, the last one is taken.
    is_last = tf.reshape(tf.range(PROPOSALS) == PROPOSALS - 1, [1, -1] + [1] * (concentration.shape.rank - 1))
    chosen = (accepted & (count == 1)) | (is_last & (count == 0))
    drawn = tf.reduce_sum(tf.where(chosen, d * v, 0.0), axis=1)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None, None]:
        return upstream * tf.raw_ops.RandomGammaGrad(alpha=concentration, sample=drawn), None, None

    return drawn, gradient
