"""KL by dimension, active units, the ELBO's surgery: held against linear-Gaussian models and closed forms."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tests.conftest import examples
from tests.evaluation.linear_gaussian import principal
from vae_runner.distributions.divergence import kl_by_dimension
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.errors import UserError
from vae_runner.evaluation.structure import (
    active_units,
    elbo_surgery,
    gaussian_total_correlation,
    variance_of_means,
)


def closed_form(mean: NDArray[np.float64], log_var: NDArray[np.float64]) -> NDArray[np.float64]:
    """The KL divergence of each dimension, as it is reported."""
    kl = kl_by_dimension(DiagonalGaussian(tf.constant(mean), tf.constant(log_var)), StandardNormal(mean.shape[1]))
    return np.asarray(kl)


def posteriors(n: int, variances: NDArray[np.float64], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Means and log-variances of a fitted linear-Gaussian model, whose aggregate posterior is N(0, I)."""
    rng = np.random.default_rng(seed)
    mean = np.sqrt(1 - variances) * rng.normal(size=(n, len(variances)))
    return mean, np.broadcast_to(np.log(variances), mean.shape)


def test_on_principal_components_kl_and_active_units_are_those_of_the_eigenvalues() -> None:
    model, pixels, values = principal(1000)
    mean = model.x(pixels) @ model.loadings / values
    log_var = np.broadcast_to(np.log(model.variance / values), mean.shape)
    kl = closed_form(mean, log_var).mean(axis=0)
    np.testing.assert_allclose(kl, 0.5 * np.log(values / model.variance), rtol=1e-12)
    variance = variance_of_means(mean) * 999 / 1000  # The eigenvalues are those of the covariance with n.
    np.testing.assert_allclose(variance, 1 - model.variance / values, rtol=1e-12)
    np.testing.assert_allclose(variance, 1 - np.exp(-2 * kl), rtol=1e-12)
    assert active_units(np.concatenate([mean, 1e-3 * mean], axis=1)) == 4
    assert active_units(mean.astype(np.float32) + np.float32(1000)) == 4


def test_what_has_no_spread_is_refused() -> None:
    with pytest.raises(UserError, match=r"^active_units of 1 image: a spread over images needs at least two"):
        active_units(np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"^mutual_information: a number of an embedding is NaN"):
        elbo_surgery(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"^gaussian_total_correlation: 1 of 2 latent dimensions are the same"):
        gaussian_total_correlation(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]]))
    with pytest.raises(UserError, match=r"^gaussian_total_correlation of 3 images: one of the 4"):
        gaussian_total_correlation(np.random.default_rng(0).normal(size=(3, 4)))


@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 4), st.integers(1, 80))
@settings(max_examples=examples(100), deadline=None)
def test_the_three_parts_of_the_kl_term_sum_to_it(seed: int, n: int, latent: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_var = 3 * rng.normal(size=(n, latent)), 2 * rng.normal(size=(n, latent)) - 1
    surgery = elbo_surgery(mean, log_var, samples, seed)
    parts = surgery.mutual_information + surgery.total_correlation + surgery.dimension_wise_kl
    assert parts == pytest.approx(surgery.kl, abs=1e-6)
    assert surgery.samples == samples
    assert surgery.mutual_information <= math.log(n) + 1e-9


def test_the_parts_are_those_of_densities_written_out() -> None:
    rng = np.random.default_rng(1)
    mean, log_var = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)) - 1
    surgery = elbo_surgery(mean, log_var, 7, seed=4)
    rng = np.random.default_rng(4)
    chosen = rng.permutation(7)
    z = mean[chosen] + np.exp(log_var[chosen] / 2) * rng.standard_normal((7, 3))
    densities = stats.norm(mean, np.exp(log_var / 2)).pdf(z[:, np.newaxis])  # [draws, images, latent]
    joint, marginals = np.log(densities.prod(axis=2).mean(axis=1)), np.log(densities.mean(axis=1))
    own = np.log(densities[np.arange(7), chosen].prod(axis=1))
    assert surgery.mutual_information == pytest.approx(np.mean(own - joint), abs=1e-12)
    assert surgery.total_correlation == pytest.approx(np.mean(joint - marginals.sum(axis=1)), abs=1e-12)
    np.testing.assert_allclose(surgery.dimensions, np.mean(marginals - stats.norm.logpdf(z), axis=0), atol=1e-12)


def test_the_sampled_kl_is_the_closed_one_within_its_error() -> None:
    mean, log_var = posteriors(4000, np.array([0.05, 0.3, 0.9]), seed=3)
    surgery = elbo_surgery(mean, log_var, 4000)
    closed = closed_form(mean, log_var).sum(axis=1).mean()
    assert abs(surgery.kl - closed) < 4 * math.sqrt(1.5 / 4000) + 0.01
    np.testing.assert_allclose(surgery.dimensions, 0, atol=0.02)
    assert not surgery.is_saturated


# Linear-Gaussian data, of which TC and DW are 0: (true MI, n) → (MI, TC) that are estimated.
SATURATION = {
    (1.76, 100): (1.87, 0.02), (1.76, 1000): (1.70, 0.01), (1.76, 4000): (1.75, 0.00),
    (4.80, 100): (4.09, 0.81), (4.80, 1000): (4.61, 0.20), (4.80, 4000): (4.74, 0.07),
    (8.82, 100): (4.59, 3.90), (8.82, 1000): (6.69, 2.13), (8.82, 4000): (7.68, 1.12),
}  # fmt: skip


@pytest.mark.parametrize("n", [100, 1000, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("information", [1.76, 4.80, 8.82])
def test_mutual_information_saturates_at_log_n_and_what_it_misses_appears_as_total_correlation(
    information: float, n: int
) -> None:
    expected_mi, expected_tc = SATURATION[information, n]
    latent = 4
    variances = np.full(latent, math.exp(-2 * information / latent))
    surgeries = [elbo_surgery(*posteriors(n, variances, seed), 2000, seed) for seed in range(max(2000 // n, 2))]
    mi = np.array([surgery.mutual_information for surgery in surgeries])
    tc = np.array([surgery.total_correlation for surgery in surgeries])
    # The table is of one set of images each. At n = 100 sets differ by 0.1, and variances that are not equal by more.
    tolerance = 0.3 if n == 100 else 0.15
    assert mi.mean() == pytest.approx(expected_mi, abs=tolerance)
    assert tc.mean() == pytest.approx(expected_tc, abs=tolerance)
    assert surgeries[0].log_n == pytest.approx(math.log(n))
    assert surgeries[0].is_saturated == (expected_mi > math.log(n) - 2)


def test_a_prior_of_its_own_is_what_the_dimensions_are_held_against() -> None:
    mean, log_var = posteriors(500, np.array([0.2, 0.2]))
    shifted = elbo_surgery(3 + 2 * mean, log_var + 2 * math.log(2), log_prior=stats.norm(3, 2).logpdf)
    plain = elbo_surgery(mean, log_var)
    assert shifted.kl == pytest.approx(plain.kl, abs=1e-9)
    assert shifted.total_correlation == pytest.approx(plain.total_correlation, abs=1e-9)
    assert elbo_surgery(mean + 3, log_var).dimension_wise_kl == pytest.approx(9, abs=0.5)


def test_surgery_of_few_draws_does_not_depend_on_the_others() -> None:
    mean, log_var = posteriors(300, np.array([0.1, 0.5]))
    assert elbo_surgery(mean, log_var, seed=2).kl == elbo_surgery(mean, log_var, seed=2).kl
    assert elbo_surgery(mean, log_var, seed=2).kl != elbo_surgery(mean, log_var, seed=3).kl


@given(st.integers(0, 2**32), st.floats(-0.95, 0.95))
@settings(max_examples=examples(50), deadline=None)
def test_gaussian_total_correlation_is_that_of_the_correlation(seed: int, rho: float) -> None:
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(200, 3))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(white.T @ white / 200)).T  # its covariance is the identity
    assert gaussian_total_correlation(white) == pytest.approx(0, abs=1e-9)
    codes = white.copy()
    codes[:, 1] = rho * white[:, 0] + math.sqrt(1 - rho**2) * white[:, 1]
    expected = -0.5 * math.log(1 - rho**2)
    assert gaussian_total_correlation(codes) == pytest.approx(expected, abs=1e-9)
    changed = (codes * [1e-3, -20.0, 1.0] + [5.0, 0.0, -1.0])[rng.permutation(200)][:, rng.permutation(3)]
    assert gaussian_total_correlation(changed) == pytest.approx(expected, abs=1e-6)


def test_the_parts_of_few_images_add_up_to_their_kl_term() -> None:
    """Of three images there are as many draws as of many: each is drawn from often."""
    rng = np.random.default_rng(0)
    mean, log_var = rng.standard_normal((3, 2)), np.full((3, 2), -1.0)
    found = elbo_surgery(mean, log_var, samples=2000)
    exact = float(0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(axis=1).mean())
    assert found.samples == 2000
    assert found.kl == pytest.approx(exact, abs=0.1)
    parts = found.mutual_information + found.total_correlation + found.dimension_wise_kl
    assert parts == pytest.approx(found.kl, abs=1e-9)


def test_the_total_correlation_of_draws_is_that_of_the_means_covariance_and_the_noise() -> None:
    """Of independent dimensions it is next to 0, where draws of as few images have a bias of d (d − 1) / 4n."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((400, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.2], [0, 0, 1]])
    variances = np.exp(rng.standard_normal((400, 3)))
    draws = np.repeat(means, 500, axis=0) + rng.standard_normal((200_000, 3)) * np.repeat(variances**0.5, 500, axis=0)
    exact = gaussian_total_correlation(means, variances)
    assert exact == pytest.approx(gaussian_total_correlation(draws), abs=1e-3)
    assert gaussian_total_correlation(np.zeros((26, 10)), np.ones((26, 10))) == pytest.approx(0, abs=1e-12)
