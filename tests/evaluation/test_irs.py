"""IRS in closed form and its weights."""

import numpy as np
import pytest

from tests.known_codes import draw_factors
from vae_runner.evaluation.irs import irs


def test_a_dimension_that_one_factor_decides_is_robust_and_a_sum_of_two_half_so() -> None:
    factors = np.stack(np.meshgrid([0, 1], [0, 1], range(5)), axis=-1).reshape(-1, 3)
    a, b, _ = factors.T
    # With a fixed, a + b is off its mean by 1/2, and by 1 at most.
    codes = np.stack([a, a + b, np.full(20, 3)], axis=1)
    found = irs(codes.astype(float), factors, quantile=1)
    np.testing.assert_allclose(found.robustness, [[1, 0, 0], [0.5, 0.5, 0], [np.nan] * 3], atol=1e-12)
    assert found.dimensions == 2
    assert found.score == pytest.approx((1 * 0.5 + 0.5 * 1) / 1.5)  # weighted by the largest deviations, 1/2 and 1


def test_few_values_far_apart_are_not_put_into_one_bin() -> None:
    factors = draw_factors(200, np.array([3, 3])) ** 9
    assert irs(factors[:, :1].astype(float), factors, quantile=1).score == pytest.approx(1)


def test_only_more_values_than_bins_are_put_into_bins() -> None:
    values = np.repeat(np.arange(40), 5)
    found = irs(values[:, None].astype(float), np.stack([values, values // 8], axis=1), quantile=1)
    # A bin holds two neighbours, each 1/2 off their mean; a value of the other factor eight.
    np.testing.assert_allclose(found.robustness, [[1 - 0.5 / 19.5, 1 - 3.5 / 19.5]])
