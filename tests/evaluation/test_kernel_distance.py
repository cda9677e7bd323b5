"""The kernel distance against its definition, and its known mean and spread for equal distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conftest import mostly_slow
from vae_runner.errors import UserError
from vae_runner.evaluation.kernel_distance import kernel_distance, squared_mmd

Array = NDArray[np.float64]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def by_definition(a: Array, b: Array) -> float:
    d = a.shape[1]

    def mean(x: Array, y: Array, same: bool) -> float:
        values = [(p @ q / d + 1) ** 3 for i, p in enumerate(x) for j, q in enumerate(y) if not same or i != j]
        return float(np.mean(values))

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


def test_the_squared_mmd_is_the_mean_over_pairs_of_different_images() -> None:
    a, b = normal(0, 7, 3), normal(1, 5, 3) + 1
    assert squared_mmd(a, b) == pytest.approx(by_definition(a, b), rel=1e-12)


@pytest.mark.parametrize("n", mostly_slow([100, 500]))
def test_for_equal_distributions_the_mean_is_0_and_the_spread_the_known_one(n: int) -> None:
    d, repeats = 64, 200 if n == 100 else 60
    # The variance of the statistic is 8 E k̃²/n², where k̃ is the kernel, centred in both of its arguments.
    square = 9 / d + 18 * (d + 2) / d**3 + 15 * (d + 2) * (d + 4) / d**5 + 9 * ((d + 2) / d**3 + 1 / d**2)
    sd = (8 * square) ** 0.5 / n
    assert sd == pytest.approx({100: 0.0109, 500: 0.0022}[n], abs=5e-5)
    values = [squared_mmd(normal(2 * r, n, d), normal(2 * r + 1, n, d)) for r in range(repeats)]
    assert abs(np.mean(values)) < 3 * sd / repeats**0.5
    assert np.std(values) == pytest.approx(sd, rel=4 / (2 * repeats) ** 0.5)
    assert min(values) < 0 < max(values)


def test_the_mean_over_subsets_is_0_for_equal_distributions_and_positive_for_others() -> None:
    a, b = normal(0, 2000, 64), normal(1, 2000, 64)
    equal = kernel_distance(a, b, subsets=15, subset_size=500)
    assert abs(equal.mean) < 0.002
    assert equal.sd == pytest.approx(0.0022, rel=0.4)
    assert (equal.subsets, equal.subset_size) == (15, 500)
    other = kernel_distance(a, b + 0.3, subsets=15, subset_size=500)
    # E k(x, x') − 2 E k(x, y) + E k(y, y') for y of mean m: with u = |m|²/d that is near (1 + u)³ − 1.
    assert other.mean == pytest.approx((1 + 0.3**2) ** 3 - 1, rel=0.1)
    assert kernel_distance(a, b, subsets=3, subset_size=500, seed=1) == kernel_distance(
        a, b, subsets=3, subset_size=500, seed=1
    )
    assert kernel_distance(a, b, subsets=3, subset_size=500, seed=1) != kernel_distance(
        a, b, subsets=3, subset_size=500, seed=2
    )


def test_one_subset_of_all_images_is_the_squared_mmd() -> None:
    a, b = normal(0, 50, 4), normal(1, 50, 4)
    found = kernel_distance(a, b, subsets=1, subset_size=50)
    assert found.mean == pytest.approx(squared_mmd(a, b), rel=1e-9)
    assert found.sd == 0


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_distance_does_not_depend_on_axes_signs_or_order(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(30, d)), rng.normal(1, 2, (20, d))
    found = pytest.approx(squared_mmd(a, b), rel=1e-9, abs=1e-9)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.choice([-1, 1], d)
    assert squared_mmd(a @ rotation, b @ rotation) == found
    assert squared_mmd(b, a) == found
    assert squared_mmd(a[rng.permutation(30)], b[rng.permutation(20)]) == found


def test_what_has_no_distance_is_refused_in_one_line() -> None:
    real = normal(0, 300, 4)
    with pytest.raises(UserError, match=r"subsets of 1,000 images cannot be computed from 300: .* at most 150"):
        kernel_distance(real, real)
    with pytest.raises(UserError, match="not finite"):
        kernel_distance(np.where(real > 2, np.inf, real), real, subset_size=100)
    with pytest.raises(UserError, match="same features"):
        kernel_distance(real, np.ones((300, 4)), subset_size=100)
    with pytest.raises(UserError, match="4 features and the real images 3"):
        kernel_distance(real, real[:, :3], subset_size=100)
    with pytest.raises(UserError, match="2 at least"):
        kernel_distance(real, real, subset_size=1)
    with pytest.raises(UserError, match="there are 0"):
        kernel_distance(real[:0], real, subset_size=100)
