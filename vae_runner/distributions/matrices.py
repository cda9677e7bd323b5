"""Operations on matrices that TensorFlow's own lack."""

import tensorflow as tf


def with_diagonal(matrices: tf.Tensor, diagonal: tf.Tensor) -> tf.Tensor:
    """Return square matrices `[…, n, n]` with this diagonal `[…, n]`.

    The gradient of `tf.linalg.set_diag` is not compiled by XLA where the size of the batch is not known beforehand.
    """
    return matrices * (1 - tf.eye(matrices.shape[-1])) + tf.linalg.diag(diagonal)
