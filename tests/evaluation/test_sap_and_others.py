"""SAP, modularity, explicitness and the β-VAE score against other implementations and exact answers."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from tests.known_codes import draw_factors, known_codes, one_to_one
from vae_runner.errors import UserError
from vae_runner.evaluation.beta_vae_score import beta_vae_score
from vae_runner.evaluation.explicitness import areas_under_curve, explicitness
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.modularity import modularity_per_dimension
from vae_runner.evaluation.sap import sap_r2, sap_svm

SIZES = np.array([3, 5])


def test_predictability_by_r2_is_pearsons_correlation_squared() -> None:
    factors = draw_factors(300, SIZES)
    codes = one_to_one(factors, SIZES)[:, [0, 1, 0]] + random_code(300, 3)
    found = sap_r2(codes, factors)
    expected = [[pearsonr(z, v).statistic ** 2 for v in factors.T] for z in codes.T]
    np.testing.assert_allclose(found.predictability, expected, atol=1e-12)
    first, second = found.per_factor
    assert second == pytest.approx(expected[1][1] - max(expected[0][1], expected[2][1]))
    assert first == pytest.approx(abs(expected[0][0] - expected[2][0]))
    assert found.score == pytest.approx((first + second) / 2)


def test_a_linear_rule_on_a_number_finds_only_the_ends_of_many_values() -> None:
    factors, codes = known_codes()
    found = sap_svm(codes["one-to-one"], factors, train=2_000, test=2_000)
    assert found.predictability[0, 0] == 1
    assert (found.per_factor[2:] < 0.04).all()


@pytest.mark.parametrize(
    ("information", "score"),
    [
        (5 * np.eye(5), 1),
        (np.array([[1, 0], [0, 1], [0, 0]]), 2 / 3),
        (np.zeros((10, 10)), 0),
        (np.vstack([np.eye(5), np.eye(5)]), 1),
        (np.eye(5)[:2], 1),
        (np.hstack([np.eye(5), np.eye(5)]), 1 - 1 / 9),
        (np.ones((3, 4)), 0),
    ],
)
def test_a_matrix_has_its_known_modularity(information: np.ndarray, score: float) -> None:
    assert modularity_per_dimension(information).mean() == pytest.approx(score, abs=1e-12)


def test_areas_under_curves_are_scikit_learns_with_ties_too() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 20, (200, 4)) / 20
    positive = generator.random((200, 4)) < 0.3
    positive[:, 3] = False
    found = areas_under_curve(scores, positive)
    np.testing.assert_allclose(found[:3], [roc_auc_score(positive[:, j], scores[:, j]) for j in range(3)])
    assert np.isnan(found[3])


def test_explicitness_leaves_out_a_value_that_no_test_image_has() -> None:
    factors = np.repeat([0, 1], 50)[:, None]
    factors[3] = 2
    codes = factors + 0.01 * random_code(100, 1)
    for seed in range(4):
        assert explicitness(codes, factors, train=70, test=30, seed=seed).score > 0.7


def test_the_scale_of_a_dimension_does_not_matter_to_explicitness_and_does_to_the_beta_vae_score() -> None:
    factors, codes = known_codes()
    code, small = codes["noisy"][:2_000, :5], 1e-3 * codes["noisy"][:2_000, :5]
    large, same = (explicitness(z, factors[:2_000], train=1_000, test=500).score for z in (code, small))
    assert large == pytest.approx(same, abs=1e-4)
    sizes = {"train": 500, "test": 500}
    assert beta_vae_score(code, factors[:2_000], **sizes).score == pytest.approx(1, abs=0.01)
    assert beta_vae_score(small, factors[:2_000], **sizes).score < 0.5


def test_explicitness_names_a_factor_that_has_one_value_in_the_test_images() -> None:
    factors = draw_factors(1000, SIZES)
    rare = np.zeros(1000, np.int64)
    rare[np.random.default_rng(0).permutation(1000)[0]] = 1  # the first to be drawn: a training image
    with pytest.raises(UserError, match="factor 2 of 2 has one value in the 300 images that explicitness is tested on"):
        explicitness(random_code(1000, 3), np.stack([factors[:, 0], rare], axis=1), train=700, test=300)
