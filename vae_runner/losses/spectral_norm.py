"""Kernels whose largest singular value is about 1."""

import keras
import numpy as np
import tensorflow as tf

ITERATIONS = 10
NEAR_ZERO = 1e-12


class SpectralNorm(keras.constraints.Constraint):
    """A kernel divided by its largest singular value (Miyato et al., 2018, equation 8).

    Kernels of convolutions are taken as matrices `[-1, last dimension]`, as there; the last dimension of a transposed
    one is its inputs, not its outputs. The value is found by power iteration, each time from the same vector, so that
    no state has to be kept from step to step; it is up to some per cent too small.
    """

    def __call__(self, w: tf.Tensor) -> tf.Tensor:
        """Return the kernel, of its shape and dtype, divided."""
        matrix = tf.reshape(tf.cast(w, tf.float32), [-1, w.shape[-1]])
        v = tf.constant(np.random.default_rng(0).normal(size=(w.shape[-1], 1)), tf.float32)
        for _ in range(ITERATIONS):
            u = tf.math.l2_normalize(tf.matmul(matrix, v), epsilon=NEAR_ZERO)
            v = tf.math.l2_normalize(tf.matmul(matrix, u, transpose_a=True), epsilon=NEAR_ZERO)
        largest = tf.norm(tf.matmul(matrix, v))
        return tf.cast(tf.reshape(matrix / tf.maximum(largest, NEAR_ZERO), w.shape), w.dtype)
