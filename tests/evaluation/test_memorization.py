"""Memorisation against known sets, and nearest images against all distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from vae_runner.errors import UserError
from vae_runner.evaluation import distances
from vae_runner.evaluation.memorization import closest_to_training, memorization

Array = NDArray[np.float64]
N, D = 1000, 16


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def shares(scale: float = 1, copied: int = 0, noise: float = 0) -> float:
    """Return the mean share over several draws of all sets."""
    found = []
    for draw in range(6):
        train, test, samples = normal(3 * draw, N, D), normal(3 * draw + 1, N, D), scale * normal(3 * draw + 2, N, D)
        samples[:copied] = train[:copied] + noise * normal(100 + draw, copied, D)
        found.append(memorization(samples, train, test).share)
    return float(np.mean(found))


def test_the_share_of_fresh_samples_is_a_half_and_copies_raise_it() -> None:
    assert shares() == pytest.approx(0.5, abs=0.02)
    assert shares(copied=N) == 1
    assert shares(copied=N, noise=0.5) == pytest.approx(0.987, abs=0.005)
    assert shares(copied=N // 10) == pytest.approx(0.55, abs=0.02)


def test_samples_in_the_middle_are_not_taken_for_copies() -> None:
    assert shares(scale=0.8) == pytest.approx(0.5, abs=0.04)


def test_the_standard_error_is_that_of_a_fair_coin() -> None:
    found = memorization(normal(0, N, D), normal(1, N, D), normal(2, N, D))
    assert 0.5 / 1000**0.5 <= found.null_standard_error < 2 * 0.5 / 1000**0.5
    assert abs(found.share - 0.5) < 4 * found.null_standard_error


def test_the_training_set_is_not_larger_than_the_test_set() -> None:
    train, test = normal(0, 900, D), normal(1, 300, D)
    found = memorization(normal(2, 2000, D), train, test)
    assert found.images == 300
    assert found.share == pytest.approx(0.5, abs=0.06)  # were all taken, it would be about 0.75
    assert memorization(train, train, test, seed=1) == memorization(train, train, test, seed=1)
    assert memorization(normal(2, 2000, D), test, train).images == 300


def test_what_is_in_both_sets_counts_half() -> None:
    real = normal(0, 60, 3) + 1e4
    assert memorization(real, real, real[::-1]).share == 0.5
    assert memorization(np.ones((5, 2)), np.zeros((4, 2)), np.zeros((4, 2))).share == 0.5


def test_images_are_flattened() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 5, 1), np.uint8)
    samples, train, test = images[:30], images[30:60], images[60:]
    flat = memorization(*(of.reshape(30, -1).astype(float) for of in (samples, train, test)))
    assert memorization(samples, train, test) == flat


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 30))
def test_the_closest_samples_are_found_with_their_training_images(seed: int, d: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    samples, train, test = rng.normal(size=(20, d)), rng.normal(size=(31, d)), rng.normal(size=(31, d))
    to_train, to_test = cdist(samples, train), cdist(samples, test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "MAX_BLOCK", block)
        found = closest_to_training(samples, train, 8)
        share = memorization(samples, train, test).share
    np.testing.assert_array_equal(found.samples, np.argsort(to_train.min(axis=1))[:8])
    np.testing.assert_array_equal(found.training_images, to_train.argmin(axis=1)[found.samples])
    np.testing.assert_allclose(found.distances, np.sort(to_train.min(axis=1))[:8], rtol=1e-6)
    assert share == np.mean(to_train.min(axis=1) < to_test.min(axis=1))


def test_fewer_samples_than_asked_for_are_all_given() -> None:
    assert len(closest_to_training(normal(0, 3, 2), normal(1, 9, 2)).samples) == 3


def test_what_has_no_neighbours_is_refused_in_one_line() -> None:
    real = normal(0, 10, 4)
    with pytest.raises(UserError, match="there are 0 test images"):
        memorization(real, real, real[:0])
    with pytest.raises(UserError, match="there are 0 samples"):
        memorization(real[:0], real, real)
    with pytest.raises(UserError, match="training images have values that are not finite"):
        closest_to_training(real, np.full((10, 4), np.nan))
    with pytest.raises(UserError, match=r"shape \(4,\) and the training images of \(3,\)"):
        closest_to_training(real, real[:, :3])


def test_the_standard_error_is_that_of_sets_drawn_anew_also_where_all_samples_lie_near_a_few_images() -> None:
    rng = np.random.default_rng(0)
    samples = 0.3 * rng.standard_normal((200, 2))
    found = [memorization(samples, *rng.standard_normal((2, 100, 2))) for _ in range(300)]
    spread = np.std([of.share for of in found])
    assert spread > 2 * 0.5 / 200**0.5  # what independent samples would have
    assert np.mean([of.share for of in found]) == pytest.approx(0.5, abs=3 * spread / 300**0.5)
    assert np.sqrt(np.mean([of.null_standard_error**2 for of in found])) == pytest.approx(spread, rel=0.15)
