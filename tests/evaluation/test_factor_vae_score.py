"""The FactorVAE score: whom dimensions vote for, and which dimensions vote."""

import numpy as np
import pytest

from tests.known_codes import draw_factors, known_codes, one_to_one
from vae_runner.evaluation.factor_vae_score import factor_vae_score
from vae_runner.evaluation.labelled_codes import random_code


def test_each_dimension_of_a_perfect_code_votes_for_its_factor() -> None:
    factors, codes = known_codes()
    found = factor_vae_score(codes["permuted"], factors)
    assert found.score == found.train_score == 1
    assert found.votes.sum() == 10_000
    np.testing.assert_array_equal(found.votes.argmax(axis=1), [3, 1, 4, 0, 2])
    assert np.count_nonzero(found.votes) == 5
    assert (found.dimensions, found.chance) == (5, 0.2)


def test_constant_dimensions_never_vote_whatever_the_threshold() -> None:
    factors, codes = known_codes()
    constant = np.full((len(factors), 2), 0.3)
    found = factor_vae_score(np.hstack([constant, codes["one-to-one"]]), factors, threshold=0, train=500, test=500)
    assert found.score == 1
    assert found.dimensions == 5
    np.testing.assert_array_equal(found.votes[:2], 0)


def test_the_threshold_hides_what_a_small_dimension_knows() -> None:
    factors, codes = known_codes()
    small = codes["one-to-one"] * [1, 1, 0.04, 1, 1]
    found = factor_vae_score(small, factors)
    assert found.dimensions == 4
    assert found.score == pytest.approx(0.79, abs=0.02)
    assert factor_vae_score(small, factors, threshold=0, train=500, test=500).score == 1


def test_without_a_dimension_that_varies_enough_the_score_is_zero() -> None:
    factors, codes = known_codes()
    found = factor_vae_score(codes["one-to-one"] * 0.01, factors)
    assert (found.score, found.train_score, found.dimensions) == (0, 0, 0)


@pytest.mark.parametrize(("batch", "score"), [(16, 0.65), (64, 0.98), (200, 1.00)])
def test_noisy_codes_do_better_with_more_images_a_vote(batch: int, score: float) -> None:
    factors = draw_factors()
    noise = random_code(len(factors), 10)
    codes = np.hstack([one_to_one(factors) + noise[:, :5], noise[:, 5:]])
    assert factor_vae_score(codes, factors, batch=batch, train=4_000, test=2_000).score == pytest.approx(
        score, abs=0.03
    )


def test_votes_do_not_need_all_combinations_of_values() -> None:
    factors, codes = known_codes()
    some = (factors[:, 0] + factors[:, 1]) % 3 != 0  # a scale exists with two of the shapes only
    assert factor_vae_score(codes["one-to-one"][some], factors[some], train=500, test=500).score > 0.99
