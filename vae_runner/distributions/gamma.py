"""Draws of Gamma and Beta distributions from a fixed number of normal and uniform ones.

A fixed number, so that they are a function of the noise that belongs to an image, and can be made where XLA compiles.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vae_runner.distributions.base import Noise

PROPOSALS = 6  # each is accepted with a probability of at least 0.95: that none is happens once in 60 million draws
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(20)  # Gauss-Legendre, on [-1, 1]
NEGLIGIBLE = 17.0  # nats by which a density has fallen where an integral of it is cut off: exp(-17) is 4e-8


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
    """Return dx/da of draws x of Gamma(a, 1), a ≥ 1, whose F(x; a) stays what it is: −(∂F/∂a) / f(x), as x is shaped.

    ∂F/∂a is the integral of (log t − ψ(a)) f(t) from 0 to x, and minus that from x to ∞: the one that does not hold the
    mode is taken. With t = x exp(v) it is smooth, and f(t)/f(x) · t/x = exp((a − x) v − x (exp(v) − 1 − v)), so that
    the same few nodes do for every draw, to within float32's rounding: 2e-5 for a = 1000. TensorFlow's RandomGammaGrad
    has a series as long as each draw needs; XLA makes one loop of them, and a GPU waits after every turn of it: minutes
    an epoch.
    """
    a, x = concentration, drawn
    is_below_mode = x <= a
    share = NEGLIGIBLE / a
    # exp(−v) − 1 + v ≥ v² / (2 + v) and exp(v) − 1 − v ≥ v² / 2 bound where the density is negligible.
    width = tf.where(is_below_mode, (share + tf.sqrt(share * (share + 8))) / 2, tf.sqrt(2 * NEGLIGIBLE / x))
    direction = tf.where(is_below_mode, -1.0, 1.0)
    log_ratio = tf.math.log(x) - tf.math.digamma(a)
    total = tf.zeros_like(x)
    for node, weight in zip((NODES + 1) / 2, NODE_WEIGHTS / 2, strict=True):
        v = direction * width * float(node)
        density = tf.exp((a - x) * v - x * (tf.math.expm1(v) - v))
        total += float(weight) * (log_ratio + v) * density
    return direction * x * width * total
