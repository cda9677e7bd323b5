"""As many images as the plain network's arithmetic allows at the rate of a large float32 matrix product.

Convolutions with fewer multiplications than taps may be faster.
"""

import time

import numpy as np
import tensorflow as tf

from benchmarks.peers import LATENT, Setting
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.models import conv
from vae_runner.models.summary import summarize, training_flops
from vae_runner.posteriors.gaussian import Gaussian

SIDE = 2048
SECONDS = 3.0


def measure(images: np.ndarray, setting: Setting) -> float:
    """Return images a second if training cost only the plain network's matrix products and convolutions."""
    encoder, decoder = conv.build(images.shape[1:], LATENT, Gaussian(), MeanSquaredError())
    return matrix_product_rate() / training_flops(summarize(encoder) + summarize(decoder))


def matrix_product_rate() -> float:
    """Return the FLOP/s of a product of two 2048×2048 float32 matrices: the median over 3 s."""
    a, b = (tf.random.stateless_normal([SIDE, SIDE], [0, i]) for i in range(2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)[0]))
    product()
    seconds = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - start)
    return float(2 * SIDE**3 / np.median(seconds))
