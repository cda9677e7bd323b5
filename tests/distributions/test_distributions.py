"""Distributions against SciPy, integrals and draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.conftest import examples
from vae_runner.distributions.divergence import kl_by_dimension, kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.distributions.point import Point
from vae_runner.distributions.squared_error import SquaredError
from vae_runner.training.noise import GivenNoise, NumpyNoise

IMAGES = 200_000
parameters = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 2), st.floats(-5, 5)), min_size=1, max_size=4)


def gaussian(mean: Sequence[float], log_var: Sequence[float]) -> DiagonalGaussian:
    """That of one image."""
    return DiagonalGaussian(tf.constant([mean], tf.float32), tf.constant([log_var], tf.float32))


@settings(deadline=None, max_examples=examples(30))
@given(parameters)
def test_log_prob_and_entropy_of_a_gaussian_are_scipys(dimensions: list[tuple[float, float, float]]) -> None:
    mean, log_var, value = (list(column) for column in zip(*dimensions, strict=True))
    ours = gaussian(mean, log_var)
    theirs = stats.norm(mean, np.exp(np.array(log_var) / 2))
    log_prob = theirs.logpdf(value).sum()
    np.testing.assert_allclose(ours.log_prob(tf.constant([value], tf.float32)), [log_prob], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.entropy(), [theirs.entropy().sum()], rtol=1e-4, atol=1e-4)


def test_the_standard_normal_is_scipys() -> None:
    normal = StandardNormal(3)
    values = np.random.default_rng(0).normal(0, 2, (5, 3)).astype(np.float32)
    np.testing.assert_allclose(normal.log_prob(tf.constant(values)), stats.norm.logpdf(values).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(normal.entropy(), [3 * stats.norm.entropy()], rtol=1e-6)
    np.testing.assert_array_equal(normal.mean, np.zeros((1, 3)))
    probabilities = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(normal.quantile(tf.constant(probabilities)), stats.norm.ppf(probabilities), atol=1e-9)


@settings(deadline=None, max_examples=examples(30))
@given(mean=st.floats(-3, 3), log_var=st.floats(-3, 2))
def test_kl_equals_the_integral_of_q_log_q_over_p(mean: float, log_var: float) -> None:
    scale = np.exp(log_var / 2)
    z = np.linspace(mean - 12 * scale, mean + 12 * scale, 20_001)
    log_q = -0.5 * ((z - mean) / scale) ** 2 - np.log(scale)
    log_p = -0.5 * z**2  # the constant they share is left out
    q = np.exp(log_q) / np.sqrt(2 * np.pi)
    integral = np.sum(q * (log_q - log_p)) * (z[1] - z[0])

    posterior = gaussian([mean], [log_var])
    np.testing.assert_allclose(kl_by_dimension(posterior, StandardNormal(1)), [[integral]], rtol=1e-4, atol=1e-5)


class OtherGaussian(DiagonalGaussian):
    """One of which no closed form is known."""


def test_a_kl_without_a_closed_form_is_that_of_the_draws_and_near_it() -> None:
    mean, log_var = (tf.tile([row], [IMAGES, 1]) for row in ([0.7, -1.2], [-1.0, 0.5]))
    noise = NumpyNoise(np.random.default_rng(0), IMAGES)
    exact, prior = DiagonalGaussian(mean, log_var), StandardNormal(2)
    z = exact.sample(noise)
    drawn = OtherGaussian(mean, log_var)
    assert kl_by_dimension(drawn, prior) is None
    estimates = kl_divergence(drawn, prior, z)
    np.testing.assert_allclose(estimates, exact.log_prob(z) - prior.log_prob(z), rtol=1e-5)
    closed = kl_divergence(exact, prior, z)
    np.testing.assert_allclose(closed, tf.reduce_sum(kl_by_dimension(exact, prior), axis=1))
    error = np.std(estimates) / np.sqrt(IMAGES)
    assert abs(np.mean(estimates) - closed[0]) < 4 * error


def test_samples_have_the_posteriors_mean_and_variance() -> None:
    noise = GivenNoise([tf.random.stateless_normal([IMAGES, 1], [0, 1])])
    z = DiagonalGaussian(tf.constant([[1.5]]), tf.constant([[-1.0]])).sample(noise).numpy()
    np.testing.assert_allclose(z.mean(), 1.5, atol=0.01)
    np.testing.assert_allclose(z.var(), np.exp(-1), rtol=0.02)


def test_samples_move_with_the_parameters_that_they_are_drawn_from() -> None:
    mean, log_var = tf.constant([[1.0, 2.0]]), tf.constant([[0.0, 2.0]])
    noise = tf.constant([[0.5, -3.0]])
    with tf.GradientTape() as tape:
        tape.watch([mean, log_var])
        z = DiagonalGaussian(mean, log_var).sample(GivenNoise([noise]))
    by_mean, by_log_var = tape.gradient(z, [mean, log_var])
    np.testing.assert_array_equal(by_mean, [[1, 1]])
    np.testing.assert_allclose(by_log_var, np.exp(log_var / 2) / 2 * noise, rtol=1e-6)


def test_draws_of_the_standard_normal_are_the_noise() -> None:
    noise = tf.constant([[5.0, -5.0]])
    np.testing.assert_array_equal(StandardNormal(2).sample(GivenNoise([noise])), noise)


class NoNoise:
    """Must not be asked."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was asked for")


def test_a_point_is_its_mean_whatever_the_noise() -> None:
    mean = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(Point(mean).sample(NoNoise()), mean)


def test_a_weighted_squared_error_is_the_likelihood_of_a_gaussian_up_to_a_constant() -> None:
    """Of variance (number of pixels) / (2 · weight), as docs/runs.md has it."""
    rng = np.random.default_rng(0)
    images, others, decoded = (rng.random((1, 4, 5, 3)) for _ in range(3))
    weight, pixels = 1000, 4 * 5 * 3
    theirs = stats.norm(decoded, np.sqrt(pixels / (2 * weight)))
    likelihood = SquaredError(tf.constant(decoded, tf.float32))
    ours = [weight * float(likelihood.error(tf.constant(x, tf.float32))[0]) for x in (images, others)]
    expected = [-theirs.logpdf(x).sum() for x in (images, others)]
    assert ours[0] - ours[1] == pytest.approx(expected[0] - expected[1], rel=1e-4)
