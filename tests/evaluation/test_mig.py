"""MIG, its ceiling, its variants with the number of bins and images, and the counting under it."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from tests.known_codes import draw_factors, known_codes, one_to_one
from vae_runner.evaluation.discretization import entropy, in_bins, mutual_information
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.mig import mig, mig_ceiling


@pytest.mark.parametrize(
    ("sizes", "ceiling"),
    [
        ((3, 6, 40, 32, 32), 0.902),  # dSprites
        ((10, 10, 10, 8, 4, 15), 1.000),  # 3D Shapes
        ((5, 10, 9, 18, 6), 1.000),  # SmallNORB without the split by instances, and fewer
        ((4, 24, 183), 0.834),  # Cars3D
        ((40,), 0.812), ((32,), 0.850), ((183,), 0.575),
    ],
)  # fmt: skip
def test_bins_hold_so_much_of_a_factor(sizes: tuple[int, ...], ceiling: float) -> None:
    assert np.mean([mig_ceiling(np.full(size, 100)) for size in sizes]) == pytest.approx(ceiling, abs=6e-4)


def test_a_perfect_code_is_at_its_ceiling_factor_by_factor() -> None:
    factors, codes = known_codes()
    found = mig(codes["one-to-one"], factors)
    np.testing.assert_allclose(found.per_factor, [0.998, 0.997, 0.802, 0.842, 0.842], atol=0.003)
    # Of values that are not equally frequent in a sample, the rarer share a bin: a little more than of equal ones.
    np.testing.assert_allclose(found.ceiling_per_factor, [1, 1, 0.812, 0.850, 0.850], atol=0.004)
    assert found.ceiling == pytest.approx(0.902, abs=0.002)
    assert found.score == pytest.approx(found.per_factor.mean())
    assert found.images == 10_000


@pytest.mark.parametrize(("bins", "score"), [(5, 0.420), (10, 0.482), (20, 0.504), (40, 0.507), (100, 0.496)])
def test_the_number_of_bins_matters(bins: int, score: float) -> None:
    factors, codes = known_codes()
    assert mig(codes["noisy"], factors, bins=bins).score == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(("images", "score"), [(200, 0.335), (1_000, 0.466), (10_000, 0.506)])
def test_few_images_score_less(images: int, score: float) -> None:
    factors, codes = known_codes()
    scores = [mig(codes["noisy"], factors, images=images, seed=seed).score for seed in range(5)]
    assert np.mean(scores) == pytest.approx(score, abs=0.01 if images > 200 else 0.03)


def test_one_outlier_takes_bins_from_all() -> None:
    factors, codes = known_codes()
    with_outlier = codes["noisy"][:10_000].copy()
    with_outlier[0] = 12
    assert mig(with_outlier, factors[:10_000]).score == pytest.approx(0.453, abs=0.01)


def test_mutual_information_is_scikit_learns() -> None:
    factors = draw_factors(500, np.array([3, 7]))
    bins = in_bins(one_to_one(factors, np.array([3, 7])) + random_code(500, 2), 20)
    information, _ = mutual_information(bins, factors)
    expected = [[mutual_info_score(code, factor) for factor in factors.T] for code in bins.T]
    np.testing.assert_allclose(information, expected, atol=1e-12)


def test_bins_are_those_of_a_histogram() -> None:
    codes = random_code(1_000, 3).astype(np.float64)
    for code, bins in zip(codes.T, in_bins(codes, 20).T, strict=True):
        np.testing.assert_array_equal(np.bincount(bins, minlength=20), np.histogram(code, 20)[0])


def test_the_entropy_of_equal_counts_is_the_logarithm_of_their_number() -> None:
    assert entropy(np.array([5, 5, 0, 5])) == pytest.approx(np.log(3))
    assert entropy(np.array([5])) == 0


def test_the_bias_is_most_of_what_an_independent_code_seems_to_know() -> None:
    factors = draw_factors(10_000, np.array([40]))
    information, bias = mutual_information(in_bins(random_code(10_000, 10).astype(np.float64), 20), factors)
    assert information.mean() == pytest.approx(0.033, abs=0.003)
    assert np.abs(information - bias).mean() < 0.012
    uniform = np.random.default_rng(0).uniform(size=(10_000, 10))  # All cells of the table are filled.
    information, bias = mutual_information(in_bins(uniform, 20), factors)
    assert information.mean() == pytest.approx(19 * 39 / 20_000, abs=0.002)
    assert (information - bias).mean() == pytest.approx(0, abs=0.002)


def test_a_dimension_of_a_huge_offset_is_put_into_bins() -> None:
    codes = np.array([[1e9], [1e9 + 1]] * 10)
    assert set(in_bins(codes, 20).ravel()) == {0, 19}
