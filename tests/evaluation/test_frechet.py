"""The Fréchet distance against its closed forms, its known bias, and SciPy's square root of a matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from vae_runner.errors import UserError
from vae_runner.evaluation.frechet import frechet_distance, frechet_distance_limit

Array = NDArray[np.float64]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def with_moments(seed: int, n: int, mean: Array, root: Array) -> Array:
    """Points of which the mean and the covariance, root @ rootᵀ, are exact."""
    x = normal(seed, n, len(mean))
    x -= x.mean(axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T @ root.T + mean


def test_the_distance_of_two_isotropic_gaussians_has_its_closed_form() -> None:
    d, m, s = 16, 0.5, 2.0
    a, b = with_moments(0, 400, np.zeros(d), np.eye(d)), with_moments(1, 300, np.full(d, m), s * np.eye(d))
    assert frechet_distance(a, b) == pytest.approx(d * m**2 + d * (s - 1) ** 2, abs=1e-9)
    assert frechet_distance(normal(0, 10_000, d), m + s * normal(1, 10_000, d)) == pytest.approx(20, abs=0.3)


def test_the_distance_of_commuting_covariances_is_that_of_their_standard_deviations() -> None:
    rotation = np.linalg.qr(normal(5, 6, 6))[0]
    s, t = np.array([0.01, 0.1, 1, 2, 3, 10]), np.array([1.0, 1, 2, 1, 0.5, 9])
    a, b = (with_moments(seed, 200, np.zeros(6), rotation * root) for seed, root in enumerate([s, t]))
    assert frechet_distance(a, b) == pytest.approx(((s - t) ** 2).sum(), rel=1e-9)


def test_the_distance_of_any_covariances_is_that_of_the_published_formula() -> None:
    a, b = normal(0, 300, 7) @ normal(1, 7, 7), normal(2, 400, 7) @ normal(3, 7, 7) + 1
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    assert frechet_distance(a, b) == pytest.approx(means + np.trace(s + t - 2 * sqrtm(s @ t).real), rel=1e-9)


def test_one_feature_is_enough() -> None:
    a, b = (
        with_moments(0, 50, np.zeros(2), np.eye(2))[:, :1],
        2 + 3 * with_moments(1, 50, np.zeros(2), np.eye(2))[:, :1],
    )
    assert frechet_distance(a, b) == pytest.approx(4 + 4, abs=1e-9)


def test_singular_covariances_give_a_real_distance() -> None:
    low = normal(0, 300, 3) @ normal(1, 3, 10)  # 10 features of rank 3
    assert frechet_distance(low, low) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(low + 1, low) == pytest.approx(10, abs=1e-5)
    with_constant = np.concatenate([normal(2, 200, 4), np.full((200, 2), 0.1)], axis=1)
    assert frechet_distance(with_constant, with_constant) == pytest.approx(0, abs=1e-7)
    collapsed = np.ones((300, 10))
    assert frechet_distance(collapsed, low) == pytest.approx(
        np.square(1 - low.mean(axis=0)).sum() + np.trace(np.cov(low, rowvar=False)), rel=1e-9
    )


@pytest.mark.parametrize("n", [250, 1000, 5000])
def test_equal_distributions_are_at_the_distance_of_the_known_bias(n: int) -> None:
    d, repeats = 64, 2 if n == 5000 else 8
    found = [
        frechet_distance(normal(2 * r, n, d), normal(2 * r + 1, n, d), images_per_feature=3) for r in range(repeats)
    ]
    assert np.mean(found) == pytest.approx(d * (d + 5) / (2 * n), rel=0.03)


def test_the_bias_of_unequal_variances_is_the_known_one() -> None:
    d, n = 64, 500
    variances = 1 / np.arange(1, d + 1)
    pairs = variances[:, None] * variances / (variances[:, None] + variances)
    expected = (2.5 * variances.sum() + pairs.sum()) / n
    assert expected == pytest.approx(0.1921, abs=1e-4)
    sets = [normal(r, n, d) * variances**0.5 for r in range(40)]
    found = [frechet_distance(a, b, images_per_feature=3) for a, b in zip(sets[::2], sets[1::2], strict=True)]
    assert np.mean(found) == pytest.approx(expected, rel=0.04)


def test_the_limit_is_without_the_bias() -> None:
    a, b = normal(0, 3000, 32), normal(1, 3000, 32)
    assert frechet_distance(a, b) > 0.12
    assert abs(frechet_distance_limit(a, b)) < 0.05
    d, m, s = 16, 0.5, 2.0
    assert frechet_distance_limit(normal(2, 8000, d), m + s * normal(3, 8000, d)) == pytest.approx(20, abs=0.4)
    assert frechet_distance_limit(a, b, seed=3) == frechet_distance_limit(a, b, seed=3)
    assert frechet_distance_limit(a, b, seed=3) != frechet_distance_limit(a, b, seed=4)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_distance_is_symmetric_and_does_not_depend_on_axes_signs_order_or_place(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(70, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, (80, d))
    found = frechet_distance(a, b)
    assert found >= 0
    close = pytest.approx(found, rel=1e-6, abs=1e-6)
    assert frechet_distance(b, a) == close
    assert frechet_distance(a[rng.permutation(70)], b[rng.permutation(80)]) == close
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.choice([-1, 1], d)
    assert frechet_distance(a @ rotation, b @ rotation) == close
    assert frechet_distance(a + 5, b + 5) == close
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * found, rel=1e-6, abs=1e-5)


def test_what_has_no_distance_is_refused_in_one_line() -> None:
    real = normal(0, 100, 4)
    with pytest.raises(UserError, match=r"30 features of samples.*4 features needs at least 40: take more images"):
        frechet_distance(real[:30], real)
    with pytest.raises(UserError, match="30 features of real images"):
        frechet_distance(real, real[:30])
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(np.where(real > 1, np.nan, real), real)
    with pytest.raises(UserError, match="all real images have the same features"):
        frechet_distance(real, np.ones((100, 4)))
    with pytest.raises(UserError, match="4 features and the real images 3"):
        frechet_distance(real, real[:, :3])
    with pytest.raises(UserError, match="at least 80"):
        frechet_distance_limit(real[:79], real)
    with pytest.raises(UserError, match="1 sizes"):
        frechet_distance_limit(real, real, sizes=1)
