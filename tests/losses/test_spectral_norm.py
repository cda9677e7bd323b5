import numpy as np
import pytest
import tensorflow as tf

from vae_runner.losses.spectral_norm import SpectralNorm


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (3, 3, 8, 16), (1, 1)])
def test_a_kernel_is_divided_by_the_largest_singular_value_of_its_matrix(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    largest = np.linalg.norm(kernel.reshape(-1, shape[-1]).astype(np.float64), ord=2)
    divided = SpectralNorm()(tf.constant(kernel))
    np.testing.assert_allclose(divided, kernel / largest, rtol=0.03, atol=1e-6)
    np.testing.assert_allclose(SpectralNorm()(divided), divided, rtol=1e-5)  # The estimate is the same each time.
    assert np.isfinite(SpectralNorm()(tf.zeros(shape))).all()
