"""What every metric of codes and factors refuses, and does not depend on."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.known_codes import draw_factors, one_to_one
from vae_runner.errors import UserError
from vae_runner.evaluation.beta_vae_score import beta_vae_score
from vae_runner.evaluation.dci import dci
from vae_runner.evaluation.explicitness import explicitness
from vae_runner.evaluation.factor_vae_score import factor_vae_score
from vae_runner.evaluation.irs import irs
from vae_runner.evaluation.labelled_codes import SameValue, random_code, split
from vae_runner.evaluation.mig import mig
from vae_runner.evaluation.modularity import modularity
from vae_runner.evaluation.sap import sap_r2, sap_svm

Score = Callable[..., float]
SIZES = np.array([3, 4, 5])
FACTORS = draw_factors(600, SIZES)
NOISY = one_to_one(FACTORS, SIZES)[:, [0, 1, 2, 1]] + 0.4 * np.random.default_rng(2).normal(size=(600, 4))

SCORES: dict[str, Score] = {
    "MIG": lambda *data, **keys: mig(*data, **keys).score,
    "modularity": lambda *data, **keys: modularity(*data, **keys).score,
    "IRS": lambda *data, **keys: irs(*data, **keys).score,
    "SAP by R²": lambda *data, **keys: sap_r2(*data, **keys).score,
    "SAP by SVM": lambda *data, **keys: sap_svm(*data, **keys).score,
    "explicitness": lambda *data, **keys: explicitness(*data, **keys).score,
    "FactorVAE": lambda *data, **keys: factor_vae_score(*data, train=300, test=200, **keys).score,
    "β-VAE": lambda *data, **keys: beta_vae_score(*data, train=300, test=200, **keys).score,
    "DCI": lambda *data, **keys: dci(*data, train=80, test=40, jobs=1, **keys).disentanglement,
}
COUNTING = ("MIG", "modularity", "IRS", "SAP by R²")  # without predictors or draws
COMPARE_FACTORS = ("modularity", "FactorVAE", "β-VAE", "DCI")
COMPARE_DIMENSIONS = ("MIG", "SAP by R²", "SAP by SVM", "DCI")
every = pytest.mark.parametrize("name", SCORES)
fast = pytest.mark.parametrize("name", [name for name in SCORES if name != "DCI"])


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


@every
def test_the_same_call_gives_the_same_number_and_a_single_precision_code_nearly_so(name: str) -> None:
    score = SCORES[name]
    assert score(NOISY, FACTORS, seed=3) == score(NOISY, FACTORS, seed=3)
    assert 0 <= score(NOISY, FACTORS, seed=3) <= 1
    assert score(NOISY.astype(np.float32), FACTORS, seed=3) == pytest.approx(score(NOISY, FACTORS, seed=3), abs=0.02)


@fast
def test_a_score_does_not_change_its_arrays(name: str) -> None:
    codes, factors = NOISY.copy(), FACTORS.copy()
    SCORES[name](codes, factors)
    np.testing.assert_array_equal(codes, NOISY)
    np.testing.assert_array_equal(factors, FACTORS)


@every
def test_a_constant_dimension_is_no_trouble(name: str) -> None:
    constant = np.full((600, 1), 0.1, np.float32)
    codes = np.hstack([constant, NOISY[:, :3], constant])
    score, without = SCORES[name](codes, FACTORS), SCORES[name](NOISY[:, :3], FACTORS)
    expected = 3 / 5 * without if name == "modularity" else without  # Modularity counts it as a dimension with 0.
    if name in COUNTING:
        assert score == pytest.approx(expected, abs=1e-9)
    elif name != "SAP by SVM":  # A machine with a constant dimension guesses: that is a second best.
        assert score == pytest.approx(expected, abs=0.03)


@fast
def test_values_of_factors_are_names(name: str) -> None:
    renamed = FACTORS * 7 - 100
    assert SCORES[name](NOISY, renamed) == pytest.approx(SCORES[name](NOISY, FACTORS), abs=1e-12)


@pytest.mark.parametrize("name", COUNTING)
@given(data=st.data())
def test_order_and_sign_of_dimensions_and_order_of_images_and_factors_do_not_matter(
    name: str, data: st.DataObject
) -> None:
    latent, factors = (data.draw(st.permutations(range(count))) for count in (4, 3))
    signs = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4)))
    images = np.random.default_rng(data.draw(st.integers(0, 100))).permutation(600)
    score = SCORES[name](NOISY, FACTORS)
    changed = SCORES[name]((NOISY[:, latent] * signs)[images], FACTORS[images][:, factors])
    # A mirrored value on the edge of a bin may be in the other bin.
    assert changed == pytest.approx(score, abs=0.01 if name in ("MIG", "modularity") else 1e-9)
    assert SCORES[name](NOISY[images][:, latent], FACTORS[images][:, factors]) == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("name", ["FactorVAE", "β-VAE", "SAP by SVM", "explicitness", "DCI"])
def test_order_and_sign_of_dimensions_do_not_matter_to_predictors_either(name: str) -> None:
    changed = (NOISY * [1, -1, -1, 1])[:, [2, 0, 3, 1]]
    assert SCORES[name](changed, FACTORS) == pytest.approx(SCORES[name](NOISY, FACTORS), abs=0.01)


@every
@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.where(np.arange(600)[:, None] == 7, np.nan, NOISY), FACTORS, "not finite"),
        (np.ones((600, 4)), FACTORS, "the same code"),
        (NOISY, FACTORS * [1, 0, 1], r"factor 2 of 3 has one value, 0, in all 600 images"),
        (NOISY[:5], FACTORS[:5], "5 images: this score"),
        (NOISY, FACTORS[:-1], "need \\(600, factors\\)"),
        (NOISY, FACTORS / 2, "number the values"),
        (NOISY.reshape(600, 2, 2), FACTORS, "needs vectors"),
    ],
)
def test_what_cannot_be_scored_is_refused(name: str, codes: np.ndarray, factors: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SCORES[name](codes, factors)


@pytest.mark.parametrize("name", COMPARE_FACTORS)
def test_one_factor_cannot_be_compared(name: str) -> None:
    with pytest.raises(UserError, match="1 factor and this score compares factors"):
        SCORES[name](NOISY, FACTORS[:, :1])


@pytest.mark.parametrize("name", COMPARE_DIMENSIONS)
def test_one_dimension_cannot_be_compared(name: str) -> None:
    with pytest.raises(UserError, match="1 dimension and this score compares dimensions"):
        SCORES[name](NOISY[:, :1], FACTORS)


@pytest.mark.parametrize("name", ["FactorVAE", "β-VAE"])
def test_a_value_that_a_single_image_has_is_named(name: str) -> None:
    factors = FACTORS.copy()
    factors[17, 1] = 9
    with pytest.raises(UserError, match="factor 2 of 3 has the value 9 in a single image"):
        SCORES[name](NOISY, factors)


def test_rows_of_a_shared_value_are_drawn_evenly_among_all_that_have_it() -> None:
    factors = np.array([[0, 5], [1, 5], [0, 7], [1, 7], [0, 7], [0, 5]])
    first = np.full(6_000, 2)
    for factor, shared in enumerate([[0, 2, 4, 5], [2, 3, 4]]):
        rows = SameValue(factors).draw(np.full(6_000, factor), first, np.random.default_rng(0))
        counts = np.bincount(rows, minlength=6)
        assert list(np.flatnonzero(counts)) == shared
        np.testing.assert_allclose(counts[shared], 6_000 / len(shared), atol=4 * np.sqrt(6_000 / len(shared)))


@given(st.integers(10, 60), st.integers(0, 5))
def test_training_and_test_images_are_disjoint_and_as_many_as_there_are(count: int, seed: int) -> None:
    codes, factors = np.arange(float(count))[:, None], np.arange(count)[:, None]
    parts = split(codes, factors, 20, 10, seed)
    rows = np.concatenate([parts.train_codes, parts.test_codes]).ravel()
    assert len(set(rows)) == len(rows) == min(count, 30)
    assert len(parts.train_codes) == min(count, 30) * 2 // 3
    np.testing.assert_array_equal(parts.train_codes, parts.train_factors)
    np.testing.assert_array_equal(parts.test_codes, parts.test_factors)


def test_a_random_code_is_standard_normal_and_repeatable() -> None:
    code = random_code(20_000, 3, seed=1)
    np.testing.assert_array_equal(code, random_code(20_000, 3, seed=1))
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(code.T), np.eye(3), atol=0.04)
