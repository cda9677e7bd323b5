import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.fitted_priors.autoregressive import AutoregressiveCodes, FittedAutoregression, MaskedConv
from vae_runner.fitted_priors.base import Space
from vae_runner.fitted_priors.likelihood import LEARNING_RATE, maximize_likelihood
from vae_runner.training.noise import NumpyNoise

SQUARE = Space((2, 2), 3)
EVERY = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 2, 2).astype(np.int32)


def network(codes: int, height: int, width: int) -> MaskedConv:
    keras.utils.set_random_seed(0)
    made = MaskedConv(codes)
    made.build((None, height, width))
    made.set_weights([3 * weight + 0.1 for weight in made.get_weights()])  # so that all matters
    return made


def squares(number: int, seed: int) -> NDArray[np.int32]:
    """Maps of 2 × 2 codes that are not equally likely, the last of which is the sum of the others."""
    codes = np.random.default_rng(seed).choice(3, (number, 3), p=[0.6, 0.3, 0.1])
    return np.concatenate([codes, codes.sum(axis=1, keepdims=True) % 3], axis=1).reshape(-1, 2, 2).astype(np.int32)


@pytest.fixture(scope="module")
def fitted() -> FittedAutoregression:
    return FittedAutoregression.fit(SQUARE, squares(512, 0), squares(200, 1), lambda done: None)


def test_the_probabilities_of_all_codes_of_a_map_sum_to_1() -> None:
    log_probs = AutoregressiveCodes(network(3, 2, 2), (2, 2)).log_prob(tf.constant(EVERY)).numpy()
    assert log_probs.std() > 0.1
    assert np.exp(log_probs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


def test_each_code_depends_on_all_codes_before_it_and_on_none_after() -> None:
    height, width = 4, 5
    masked = network(7, height, width)
    codes = np.random.default_rng(0).integers(0, 7, (1, height, width), np.int32)
    logits = masked(tf.constant(codes)).numpy().reshape(height * width, 7)
    for place in range(height * width):
        changed = codes.copy()
        changed.flat[place] = (codes.flat[place] + 1) % 7
        moved = (masked(tf.constant(changed)).numpy().reshape(height * width, 7) != logits).any(axis=1)
        np.testing.assert_array_equal(moved, np.arange(height * width) > place)


def test_samples_have_the_probabilities_that_the_network_gives_them(fitted: FittedAutoregression) -> None:
    density = fitted.distribution
    drawn = density.sample(NumpyNoise(np.random.default_rng(0), 20_000)).numpy()
    expected = 20_000 * np.exp(density.log_prob(tf.constant(EVERY)).numpy())
    places = np.ravel_multi_index(tuple(drawn.reshape(-1, 4).T), (3, 3, 3, 3))
    found = np.bincount(places, minlength=81)
    likely = expected > 5
    assert likely.sum() >= 20
    assert np.sum((found - expected)[likely] ** 2 / expected[likely]) < 2 * likely.sum()
    again = density.sample(NumpyNoise(np.random.default_rng(1), 100)).numpy()
    assert (again != drawn[:100]).any()


def test_it_learns_how_codes_depend_on_each_other_and_samples_that(fitted: FittedAutoregression) -> None:
    entropy = -3 * np.sum([p * np.log(p) for p in (0.6, 0.3, 0.1)])
    others = squares(5000, 2)
    assert float(tf.reduce_mean(fitted.distribution.log_prob(tf.constant(others)))) == pytest.approx(-entropy, abs=0.15)
    drawn = fitted.distribution.sample(NumpyNoise(np.random.default_rng(0), 2000)).numpy().reshape(-1, 4)
    assert np.mean(drawn[:, :3].sum(axis=1) % 3 == drawn[:, 3]) > 0.97
    np.testing.assert_allclose(np.bincount(drawn[:, :3].ravel()) / drawn[:, :3].size, [0.6, 0.3, 0.1], atol=0.04)


def test_it_is_the_same_after_it_is_kept_and_of_another_space_it_is_refused(fitted: FittedAutoregression) -> None:
    again = FittedAutoregression.from_arrays(SQUARE, dict(fitted.arrays))
    codes = tf.constant(squares(20, 3))
    np.testing.assert_array_equal(again.distribution.log_prob(codes), fitted.distribution.log_prob(codes))
    with pytest.raises(ValueError, match="it has"):
        FittedAutoregression.from_arrays(Space((2, 2), 4), dict(fitted.arrays))


def test_too_many_codes_are_refused() -> None:
    codes = squares(20, 0)
    with pytest.raises(UserError, match=re.escape("takes at most 65,536 codes, and this run has 100,000")):
        FittedAutoregression.fit(Space((2, 2), 100_000), codes, codes, lambda done: None)


def test_the_first_step_of_a_row_is_as_long_however_often_the_batch_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Adam's first step has the length of the learning rate, and were n parts squared instead of their sum, √n of it.
    monkeypatch.setattr("vae_runner.fitted_priors.likelihood.MAX_ROUNDS", 1)
    embedding = keras.layers.Embedding(2, 1, embeddings_initializer="zeros")
    embedding.build(None)
    values = np.zeros((4, 1), np.int32)
    maximize_likelihood(
        embedding, lambda codes: embedding(codes)[:, 0, 0], Space((1,), 2), values, values, lambda _: None, batch=4
    )
    np.testing.assert_allclose(embedding.embeddings, [[LEARNING_RATE], [0]], rtol=1e-3)


def test_of_large_maps_of_many_codes_so_many_are_passed_at_once_as_memory_allows(
    fitted: FittedAutoregression, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, usual = Space((16, 16), 16_384), Space((16, 16), 512)
    assert (large.at_once(64), large.at_once(256)) == (11, 11)
    assert (usual.at_once(64), usual.at_once(256), Space((10,)).at_once(256)) == (64, 256, 256)
    drawn = fitted.distribution.sample(NumpyNoise(np.random.default_rng(0), 20)).numpy()
    at_once = []
    call = MaskedConv.call
    monkeypatch.setattr(MaskedConv, "call", lambda self, codes: at_once.append(codes.shape[0]) or call(self, codes))
    monkeypatch.setattr("vae_runner.fitted_priors.base.MAX_NUMBERS", 8 * 2 * 2 * 3)
    few = fitted.distribution.sample(NumpyNoise(np.random.default_rng(0), 20)).numpy()
    np.testing.assert_array_equal(few, drawn)
    monkeypatch.setattr("vae_runner.fitted_priors.likelihood.MAX_ROUNDS", 1)
    tf.config.run_functions_eagerly(True)  # else only the shapes of traces are seen, which may be open
    try:
        FittedAutoregression.fit(SQUARE, squares(30, 0), squares(20, 1), lambda done: None)
    finally:
        tf.config.run_functions_eagerly(False)
    assert max(at_once) == 8
