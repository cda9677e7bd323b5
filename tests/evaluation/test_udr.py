"""UDR of runs that agree, disagree and have collapsed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tests.known_codes import draw_factors, one_to_one, rotated
from vae_runner.errors import UserError
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.udr import one_to_one as strength
from vae_runner.evaluation.udr import udr

IMAGES = 1_000
CODE = one_to_one(draw_factors(IMAGES))


@pytest.mark.parametrize(
    ("other", "lasso", "spearman"),
    [
        (CODE, 0.900, 0.926),
        (CODE[:, [3, 1, 4, 0, 2]] * [1, -1, 1, -1, -1], 0.900, 0.926),
        (random_code(IMAGES, 5), 0.000, 0.019),
        (CODE + 0.3 * random_code(IMAGES, 5), 0.857, 0.883),
    ],
)
def test_two_runs_have_their_known_score(other: np.ndarray, lasso: float, spearman: float) -> None:
    for by, known in (("lasso", lasso), ("spearman", spearman)):
        found = udr([CODE, other], by=by)
        np.testing.assert_allclose(found.scores, known, atol=0.01)
        assert found.pairs[0, 1] == found.pairs[1, 0] == found.scores[0]


def test_rotated_codes_have_their_known_score_give_or_take_the_rotation() -> None:
    rotations = [np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0] for seed in range(20)]
    for by, known in (("lasso", 0.325), ("spearman", 0.323)):
        scores = [udr([CODE, CODE @ rotation], by=by).scores[0] for rotation in rotations]
        assert np.mean(scores) == pytest.approx(known, abs=np.std(scores))  # The known value is of one rotation.
        assert np.std(scores) < 0.1


def test_a_rotation_by_45_degrees_has_its_closed_form() -> None:
    grid = np.stack(np.meshgrid(range(5), range(4), range(4)), axis=-1).reshape(-1, 3).astype(float)
    mixed = ((np.sqrt(0.5) - 0.1) ** 2) / (2 * (np.sqrt(0.5) - 0.1))  # of two equal coefficients
    np.testing.assert_allclose(udr([grid, rotated(grid)]).scores, (0.9 + 2 * mixed) / 3, atol=1e-4)


def test_uncorrelated_codes_that_agree_have_one_less_the_penalty() -> None:
    grid = np.stack(np.meshgrid(range(5), range(5), range(4)), axis=-1).reshape(-1, 3).astype(float)
    for alpha in (0.1, 0.3):
        np.testing.assert_allclose(udr([grid, -grid], alpha=alpha).scores, 1 - alpha, atol=1e-6)
    np.testing.assert_allclose(udr([grid, -(grid**3)], by="spearman").scores, 1)


def test_a_runs_score_is_the_median_over_its_pairs() -> None:
    codes = [CODE, -CODE, rotated(CODE), random_code(IMAGES, 5), CODE[:, ::-1]]
    found = udr(codes)
    for i in range(5):
        assert found.scores[i] == np.median(np.delete(found.pairs[i], i))
    assert np.isnan(np.diag(found.pairs)).all()
    np.testing.assert_array_equal(found.pairs, found.pairs.T)
    assert found.scores.argmin() == 3


def test_dimensions_of_little_information_are_left_out() -> None:
    noise = [random_code(IMAGES, 3, seed) for seed in (1, 2)]
    codes = [np.hstack([CODE, noise[0]]), np.hstack([noise[1], CODE])]
    kl = [np.array([2.0] * 5 + [0.009] * 3), np.array([0.01] * 3 + [2.0] * 5)]
    found = udr(codes, kl)
    np.testing.assert_allclose(found.scores, udr([CODE, CODE]).scores)
    np.testing.assert_array_equal(found.dimensions, 5)
    assert udr(codes).scores[0] < 0.6
    np.testing.assert_array_equal(udr(codes, kl, threshold=0.005).dimensions, [8, 8])


@pytest.mark.parametrize("by", ["lasso", "spearman"])
def test_a_collapsed_run_shares_nothing_and_a_constant_dimension_is_left_out(by: str) -> None:
    with_constant = np.hstack([CODE, np.full((IMAGES, 1), 0.2)])
    runs = [CODE, with_constant, CODE, np.zeros((IMAGES, 5))]
    found = udr(runs, [np.ones(5), np.ones(6), np.zeros(5), np.ones(5)], by=by)
    np.testing.assert_array_equal(found.dimensions, [5, 5, 0, 0])
    assert found.pairs[0, 1] == udr([CODE, CODE], by=by).pairs[0, 1]
    np.testing.assert_array_equal(found.pairs[2:, :2], 0)


def test_rank_correlation_is_scipys_and_ignores_monotone_changes() -> None:
    code = random_code(IMAGES, 4)
    other = code + random_code(IMAGES, 4, seed=1)
    expected = strength(np.abs(spearmanr(code, other).statistic[:4, 4:]))
    assert udr([code, other], by="spearman").scores[0] == pytest.approx(expected, abs=1e-12)
    assert udr([code, np.exp(other)], by="spearman").scores[0] == pytest.approx(expected, abs=1e-12)


@given(data=st.data())
def test_order_sign_and_scale_of_dimensions_and_order_of_images_do_not_matter(data: st.DataObject) -> None:
    other = rotated(CODE) + 0.2 * random_code(IMAGES, 5)
    order = data.draw(st.permutations(range(5)))
    scale = np.array(data.draw(st.lists(st.sampled_from([-3.0, -1.0, 0.5, 100.0]), min_size=5, max_size=5)))
    images = np.random.default_rng(data.draw(st.integers(0, 100))).permutation(IMAGES)
    for by in ("lasso", "spearman"):
        changed = udr([CODE[images], (other * scale)[images][:, order]], by=by)
        np.testing.assert_allclose(changed.scores, udr([CODE, other], by=by).scores, atol=1e-3)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([CODE], "give two at least"),
        ([CODE, CODE[:-1]], "encode the same images"),
        ([CODE, np.ones((IMAGES, 5))], "fewer than two runs"),
        ([CODE, np.full((IMAGES, 5), np.nan)], "not finite"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(codes: list[np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        udr(codes)


def test_images_are_the_same_of_all_runs_and_so_many() -> None:
    many = np.vstack([CODE, CODE + 0.1])
    assert udr([many, many], images=500, seed=1).scores[0] == udr([many, many], images=500, seed=1).scores[0]
    assert udr([many, many], images=500).scores[0] == pytest.approx(0.9, abs=0.02)
