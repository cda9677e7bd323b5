"""DCI of matrices with known answers, and of codes."""

import numpy as np
import pytest

from tests.known_codes import draw_factors, one_to_one
from vae_runner.evaluation.dci import completeness, dci, disentanglement, disentanglement_per_dimension
from vae_runner.evaluation.labelled_codes import random_code

SIZES = np.array([3, 4, 5])


@pytest.mark.parametrize(
    ("importance", "d", "c"),
    [
        (np.eye(5), 1, 1),
        (5 * np.eye(5)[[3, 1, 0, 4, 2]], 1, 1),
        (np.zeros((10, 10)), 0, 0),
        (np.vstack([np.eye(5), np.eye(5)]), 1, 1 - np.log(2) / np.log(10)),
        (np.hstack([np.eye(5), np.eye(5)]), 1 - np.log(2) / np.log(10), 1),
        (np.ones((4, 3)), 0, 0),
        (np.vstack([np.eye(3), np.zeros((2, 3))]), 1, 1),
    ],
)
def test_a_matrix_has_its_known_scores(importance: np.ndarray, d: float, c: float) -> None:
    assert disentanglement(importance) == pytest.approx(d, abs=1e-8)
    assert completeness(importance) == pytest.approx(c, abs=1e-8)


def test_a_dimension_for_two_factors_lacks_what_one_bit_is_of_all() -> None:
    each = disentanglement_per_dimension(np.array([[1, 1, 0, 0], [0, 0, 1, 0]]))
    np.testing.assert_allclose(each, [1 - np.log(2) / np.log(4), 1], atol=1e-8)


def test_dimensions_weigh_by_their_importance() -> None:
    importance = np.array([[3, 0], [0.5, 0.5]])  # D_1 = 1, D_2 = 0
    assert disentanglement(importance) == pytest.approx(3 / 4, abs=1e-8)


def test_a_perfect_code_a_code_twice_and_noise_do_not_depend_on_jobs() -> None:
    factors = draw_factors(450, SIZES)
    perfect = one_to_one(factors, SIZES)
    found = dci(perfect, factors, train=300, test=150, jobs=1)
    assert found.disentanglement == pytest.approx(1, abs=1e-6)
    assert found.completeness == pytest.approx(1, abs=1e-6)
    assert found.informativeness == found.informativeness_train == 1
    assert (found.train, found.test) == (300, 150)
    np.testing.assert_allclose(found.importance, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.accuracy, 1)

    twice = dci(np.hstack([perfect, perfect]), factors, train=300, test=150, jobs=1)
    assert twice.disentanglement == pytest.approx(1, abs=1e-6)

    noise = random_code(450, 4)
    found, with_threads = (dci(noise, factors, train=300, test=150, jobs=jobs) for jobs in (1, 3))
    assert found.disentanglement < 0.1
    assert found.informativeness == pytest.approx(found.chance, abs=0.1)
    assert found.chance == pytest.approx(np.mean(1 / SIZES), abs=0.1)
    np.testing.assert_allclose(found.importance.sum(axis=0), 1)
    np.testing.assert_array_equal(found.importance, with_threads.importance)
    np.testing.assert_array_equal(found.accuracy, with_threads.accuracy)
