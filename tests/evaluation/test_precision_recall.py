"""Precision, recall, density and coverage against their definitions, closed forms and known sets."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tests.conftest import mostly_slow
from vae_runner.errors import UserError
from vae_runner.evaluation import distances
from vae_runner.evaluation.precision_recall import OVER_CONCENTRATED, PrecisionRecall, precision_recall

Array = NDArray[np.float64]
N, D = 1000, 16


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def by_definition(samples: Array, reference: Array, k: int, coverage_k: int) -> PrecisionRecall:
    """All distances at once: exact for integers, so that ≤ is exact."""

    def radii(x: Array, k: int) -> Array:
        return np.sort(cdist(x, x, "sqeuclidean"), axis=1)[:, k]

    between = cdist(samples, reference, "sqeuclidean")
    near = between <= radii(reference, coverage_k)
    return PrecisionRecall(
        float((between <= radii(reference, k)).any(axis=1).mean()),
        float((between <= radii(samples, k)[:, None]).any(axis=0).mean()),
        near.sum() / (coverage_k * len(samples)),
        float(near.any(axis=0).mean()),
    )


def scores(found: PrecisionRecall) -> tuple[float, float, float, float]:
    return found.precision, found.recall, found.density, found.coverage


def test_samples_of_one_mode_are_precise_and_recall_nothing() -> None:
    real = normal(0, N, D)
    samples = real[:1] + 1e-3 * normal(1, N, D)
    found = precision_recall(samples, real)
    balls = int((cdist(real, real[:1])[:, 0] <= np.sort(cdist(real, real), axis=1)[:, 5]).sum())  # around that image
    assert found.precision == 1
    assert found.recall == 1 / N
    assert found.density == pytest.approx(balls / 5)
    assert found.coverage == balls / N
    # The other way round it is recall that is 1.
    swapped = precision_recall(real, samples)
    assert swapped.precision < 0.01
    assert swapped.recall == 1


def test_copies_are_precise_and_recall_all() -> None:
    real = normal(0, N, D)
    # With <, in place of ≤, the density of copies would be 1: each would be in the balls of k others and its own, and
    # on the surface of one of them.
    assert scores(precision_recall(real.copy(), real)) == (1, 1, pytest.approx(1 + 1 / 5), 1)


def test_contracted_samples_are_dense_and_expanded_ones_recall_more() -> None:
    # The known values are of k = 5 for all four, one draw; here is the mean of four.
    def mean(scale: float) -> Array:
        pairs = [(scale * normal(2 * r, N, D), normal(2 * r + 1, N, D)) for r in range(4)]
        return np.mean([scores(precision_recall(*pair, k=5)) for pair in pairs], axis=0)

    assert (np.abs(mean(0.7) - [0.999, 0.287, 3.37, 0.99]) < [0.003, 0.03, 0.2, 0.01]).all()
    assert (np.abs(mean(1.5) - [0.24, 1.0, 0.10, 0.34]) < [0.03, 0.002, 0.015, 0.03]).all()
    assert precision_recall(0.7 * normal(0, N, D), normal(1, N, D)).density > OVER_CONCENTRATED
    assert precision_recall(normal(0, N, D), normal(1, N, D)).density < OVER_CONCENTRATED


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_coverage_and_density_of_equal_distributions_have_their_closed_form(k: int) -> None:
    n, repeats = 400, 8
    factors = [(n - i) / (2 * n - i) for i in range(1, k + 1)]
    expected = 1 - float(np.prod(factors))
    assert expected == pytest.approx(1 - 2.0**-k, abs=2e-3)
    found = [precision_recall(normal(2 * r, n, 4), normal(2 * r + 1, n, 4), coverage_k=k) for r in range(repeats)]
    assert np.mean([of.coverage for of in found]) == pytest.approx(expected, abs=0.015)
    assert np.mean([of.density for of in found]) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "case", mostly_slow([(16, 500, 0.89), (64, 500, 0.73), (512, 500, 0.62), (512, 2000, 0.55)], 2)
)
def test_precision_and_recall_of_equal_distributions_sink_with_the_dimension(case: tuple[int, int, float]) -> None:
    d, n, expected = case
    # The known values are one draw's, with k = 5; several draws differ by up to 0.05 around their mean.
    repeats = 6 if n == 500 else 2
    found = [precision_recall(normal(2 * r, n, d), normal(2 * r + 1, n, d), k=5) for r in range(repeats)]
    precision, recall = (np.mean([scores(of)[which] for of in found]) for which in (0, 1))
    assert precision == pytest.approx(recall, abs=0.04)
    assert (precision + recall) / 2 == pytest.approx(expected, abs=0.05)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_ties_and_duplicates_are_inside(seed: int, d: int, k: int, coverage_k: int) -> None:
    rng = np.random.default_rng(seed)
    samples, real = (rng.integers(0, 4, (n, d)).astype(float) for n in (9, 12))
    if (real == real[0]).all():
        return
    found = precision_recall(samples / 7 + 1000 / 3, real / 7 + 1000 / 3, k=k, coverage_k=coverage_k)
    assert scores(found) == pytest.approx(scores(by_definition(samples, real, k, coverage_k)), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_scores_do_not_depend_on_axes_signs_order_place_scale_or_the_size_of_blocks(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(40, d)), rng.normal(0.5, 1.5, (50, d))
    found = precision_recall(a, b)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.choice([-1, 1], d)
    assert precision_recall(a @ rotation, b @ rotation) == found
    assert precision_recall(a[rng.permutation(40)], b[rng.permutation(50)]) == found
    assert precision_recall(1000 * a + 7, 1000 * b + 7) == found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "MAX_BLOCK", 7)
        assert precision_recall(a, b) == found


def test_memory_does_not_grow_with_the_square_of_the_number() -> None:
    samples, real = normal(0, 4000, 4), normal(1, 4000, 4)
    tracemalloc.start()
    precision_recall(samples, real)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # all distances are 128 MB


def test_what_has_no_score_is_refused_in_one_line() -> None:
    real = normal(0, 100, 4)
    with pytest.raises(UserError, match=r"5 features of samples, and a ball which reaches to the 5-th .* at least 6"):
        precision_recall(real[:5], real)
    with pytest.raises(UserError, match="not finite"):
        precision_recall(real, np.where(real > 1, np.nan, real))
    with pytest.raises(UserError, match="same features"):
        precision_recall(real, np.ones((100, 4)))
    collapsed = precision_recall(np.full((100, 4), 9.0), real)
    assert scores(collapsed) == (0, 0, 0, 0)
