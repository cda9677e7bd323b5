import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from vae_runner.models.posterior import DiagonalGaussian, Point


@settings(deadline=None, max_examples=30)
@given(mean=st.floats(-3, 3), log_var=st.floats(-3, 2))
def test_kl_equals_the_integral_of_q_log_q_over_p(mean: float, log_var: float) -> None:
    scale = np.exp(log_var / 2)
    z = np.linspace(mean - 12 * scale, mean + 12 * scale, 20_001)
    log_q = -0.5 * ((z - mean) / scale) ** 2 - np.log(scale)
    log_p = -0.5 * z**2  # the constant they share is left out
    q = np.exp(log_q) / np.sqrt(2 * np.pi)
    integral = np.sum(q * (log_q - log_p)) * (z[1] - z[0])

    posterior = DiagonalGaussian(tf.constant([[mean]], tf.float32), tf.constant([[log_var]], tf.float32))
    np.testing.assert_allclose(posterior.kl(), [[integral]], rtol=1e-4, atol=1e-5)


def test_samples_have_the_posteriors_mean_and_variance() -> None:
    noise = tf.random.stateless_normal([200_000, 1], [0, 1])
    z = DiagonalGaussian(tf.constant([[1.5]]), tf.constant([[-1.0]])).sample(noise).numpy()
    np.testing.assert_allclose(z.mean(), 1.5, atol=0.01)
    np.testing.assert_allclose(z.var(), np.exp(-1), rtol=0.02)


def test_a_point_is_its_mean_whatever_the_noise() -> None:
    mean = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(Point(mean).sample(tf.constant([[5.0, -5.0]])), mean)
