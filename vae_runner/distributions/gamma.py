"""Draws of Gamma and Beta distributions from a fixed number of normal and uniform ones.

A fixed number, so that they are a function of the noise that belongs to an image, and can be made where XLA compiles.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vae_runner.distributions.base import Noise

PROPOSALS = 6  # each is accepted with a probability of at least 0.95: that none is happens once in 60 million draws
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(20)  # Gauss-Legendre, on [-1, 1]
CUTOFF_NATS = 17.0  # An integral ends where the density has fallen by so much: exp(-17) is 4e-8.


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
        return upstream * implicit_gradient(concentration, drawn), None, None

    return drawn, gradient


def implicit_gradient(concentration: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Return dx/da of draws x of Gamma(a, 1), a ≥ 1, at a fixed F(x; a), as x is shaped: −(∂F/∂a) / f(x).

    ∂F/∂a is the integral of (log t − ψ(a)) f(t) from 0 to x, and minus that from x to ∞: the one on the side of x that
    is away from the mean is taken, where t f(t) only falls. With t = x exp(v) it is smooth, and f(t)/f(x) · t/x is
    exp((a − x) v − x (exp(v) − 1 − v)), so that the same few nodes do for every x within seven standard deviations.
    The relative error is float32's rounding: 1e-6 for a up to 10, and then about that times √a / 3.

    TensorFlow's RandomGammaGrad has a series, as long as each draw needs. Under XLA it is one loop, and a GPU
    synchronises with the host after each iteration of it: minutes an epoch.
    """
    a, x = concentration, tf.maximum(drawn, np.finfo(np.float32).tiny)
    is_below_mean = x <= a
    share = CUTOFF_NATS / a
    # The exponent has fallen by CUTOFF_NATS where |v| is `width`, or before: with s = |v| it is, for every x, at most
    # −a (exp(−s) − 1 + s) ≤ −a s² / (2 + s) below the mean, and at most −x (exp(s) − 1 − s) ≤ −x s² / 2 above it.
    width = tf.where(is_below_mean, (share + tf.sqrt(share * (share + 8))) / 2, tf.sqrt(2 * CUTOFF_NATS / x))
    direction = tf.where(is_below_mean, -1.0, 1.0)
    log_ratio = tf.math.log(x) - tf.math.digamma(a)
    total = tf.zeros_like(x)
    for node, weight in zip((NODES + 1) / 2, NODE_WEIGHTS / 2, strict=True):
        v = direction * width * float(node)
        density = tf.exp((a - x) * v - x * (tf.math.expm1(v) - v))
        total += float(weight) * (log_ratio + v) * density
    return direction * x * width * total
