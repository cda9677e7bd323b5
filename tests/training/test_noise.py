"""Random numbers belong to the seed, the step, the number of the draw and the image, and to nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.networks import build, one_player
from vae_runner.acceleration.optimizers import Adam
from vae_runner.datasets.pipeline import Batches, Share
from vae_runner.datasets.schema import AugmentConfig
from vae_runner.losses.base import Batch, Loss
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.runtime.hardware import Hardware
from vae_runner.training.inner import InnerLoop
from vae_runner.training.noise import GivenNoise, NumpyNoise, RequestedNoise, StatelessNoise

SEED = 3
IMAGES = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 1), np.uint8)


def noise(step: int = 5, first: int = 0, images: int = 8, batch: int = 8, seed: int = SEED) -> StatelessNoise:
    """That of so many images of a batch."""
    content, place, size = tf.zeros([0], tf.int64), tf.constant(first, tf.int64), tf.constant(batch, tf.int64)
    share = Share(content, place, tf.constant(1.0, tf.float64), size, content)
    return StatelessNoise(seed, tf.constant(step, tf.int64), share, tf.constant(images, tf.int64))


@pytest.mark.parametrize("step", [0, 5, -1])
def test_the_first_draw_is_that_of_seed_and_step(step: int) -> None:
    expected = tf.random.stateless_normal([8, 2], [SEED, step], alg="philox")
    np.testing.assert_array_equal(noise(step).normal([2]), expected)


def test_later_draws_and_those_of_other_steps_and_seeds_are_others() -> None:
    one = noise()
    draws = [one.normal([2]), one.normal([2]), one.normal([2]), noise(6).normal([2]), noise(seed=4).normal([2])]
    draws += [one.uniform([2]), one.uniform([2])]
    assert len({np.asarray(draw).tobytes() for draw in draws}) == len(draws)
    other = noise(6)
    other.normal([2])
    assert not np.array_equal(other.normal([2]), draws[1])
    again = noise()
    for draw in draws[:3]:
        np.testing.assert_array_equal(again.normal([2]), draw)


def test_an_image_has_its_noise_whoever_computes_it() -> None:
    def draws(of: StatelessNoise) -> list[np.ndarray]:
        return [np.asarray(of.normal([2])), np.asarray(of.uniform([])), np.asarray(of.normal([3, 2]))]

    whole = draws(noise())
    for first, images in ((0, 3), (3, 5)):
        for part, all_of_it in zip(draws(noise(first=first, images=images)), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[first : first + images])


def test_draws_are_of_their_distributions() -> None:
    one = noise(images=20_000, batch=20_000)
    for draw in (one.normal([1]), one.normal([1])):
        assert stats.kstest(np.ravel(draw), "norm").pvalue > 0.01
    uniform = one.uniform([])
    assert uniform.shape == (20_000,)
    assert uniform.dtype == tf.float32
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    assert 0 <= np.min(uniform) < np.max(uniform) < 1


def test_given_noise_is_handed_out_in_order() -> None:
    draws = [tf.constant([1.0]), tf.constant([2.0])]
    given = GivenNoise(draws)
    assert given.normal([]) is draws[0]
    assert given.uniform([]) is draws[1]


def test_requests_are_noted_with_their_shapes() -> None:
    recorder = RequestedNoise(4)
    assert recorder.normal([2]).shape == (4, 2)
    assert recorder.uniform([]).shape == (4,)
    assert recorder.requests == [("normal", (2,)), ("uniform", ())]


def test_numpys_noise_is_its_generators() -> None:
    ours, theirs = NumpyNoise(np.random.default_rng(1), 3), np.random.default_rng(1)
    np.testing.assert_array_equal(ours.normal([2]), theirs.standard_normal((3, 2)).astype(np.float32))
    np.testing.assert_array_equal(ours.uniform([]), theirs.random(3).astype(np.float32))


class Drawing(Loss):
    """Its terms are what it draws, for each image another weight."""

    terms = ("first", "second", "third")

    def __call__(self, autoencoder: Autoencoder, batch: Batch, training: bool) -> tuple[Any, dict[str, tf.Tensor]]:
        """Draw once more in training."""
        draws = [batch.noise.normal([2])[:, 0], batch.noise.uniform([]), batch.noise.normal([])]
        if training:
            draws[2] = batch.noise.uniform([3])[:, 2]
        weights = tf.reduce_mean(batch.images, axis=[1, 2, 3])
        terms = {name: tf.reduce_mean(weights * draw) for name, draw in zip(self.terms, draws, strict=True)}
        decoded = autoencoder.decode(autoencoder.encode(batch.images, batch.labels, training).mean).mean
        return tf.add_n(list(terms.values())) + tf.reduce_mean(decoded), terms


def test_noise_of_several_kinds_is_the_same_when_xla_compiles_the_step() -> None:
    results = []
    for xla in (False, True):
        autoencoder = build((8, 8, 1), model=mlp, width=4)
        hardware = Hardware(tf.distribute.OneDeviceStrategy("/cpu:0"), xla, {})
        inner = InnerLoop(autoencoder, Drawing(), one_player(autoencoder, Adam(0.0)), hardware, SEED, 3)
        batches = Batches(IMAGES, 4, SEED)
        shares = batches.shares()
        trained = [inner.train(batches, shares, step, 1).terms[1:] for step in range(3)]
        test = Batches(IMAGES, 4)
        results.append([*trained, inner.evaluate(test, test.shares(), 0, 3).terms[1:]])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.round(results[0], 6))) == 12  # all of them others


class Seen(Drawing):
    """Its terms say which images it was given: how many numbers of them are neither 0 nor 1, and a random weighing."""

    terms = ("grey", "weighed", "normal")

    def __call__(self, autoencoder: Autoencoder, batch: Batch, training: bool) -> tuple[Any, dict[str, tf.Tensor]]:
        decoded = autoencoder.decode(autoencoder.encode(batch.images, batch.labels, training).mean).mean
        grey = tf.reduce_mean(tf.cast((batch.images > 0) & (batch.images < 1), tf.float32))
        weights = np.random.default_rng(1).random((8, 8, 1), np.float32)
        weighed, normal = tf.reduce_mean(batch.images * weights), tf.reduce_mean(batch.noise.normal([]))
        return tf.reduce_mean(decoded), dict(zip(self.terms, (grey, weighed, normal), strict=True))


def epochs_of(
    count: int, first: int = 0, xla: bool = False, binarizes: bool = True, augmentation: AugmentConfig | None = None
) -> tuple[list[np.ndarray], Callable[[], np.ndarray]]:
    """What the loss saw in the three steps of each epoch from `first` on, and what shows that of an evaluation."""
    autoencoder = build((8, 8, 1), model=mlp, width=4)
    hardware = Hardware(tf.distribute.OneDeviceStrategy("/cpu:0"), xla, {})
    players = one_player(autoencoder, Adam(0.0))
    inner = InnerLoop(autoencoder, Seen(), players, hardware, SEED, 3, augmentation=augmentation, binarizes=binarizes)
    batches = Batches(IMAGES, 4, SEED)
    shares = batches.shares(first)
    seen = [inner.train(batches, shares, step, 1).terms[1:] for step in range(3 * first, 3 * count)]
    test = Batches(IMAGES, 4)
    return np.split(np.array(seen), count - first), lambda: inner.evaluate(test, test.shares(), 0, 3).terms[1:]


def test_dynamic_binarisation_draws_training_images_anew_in_every_step() -> None:
    drawn, evaluate = epochs_of(30)
    grey, weighed, _ = np.array(drawn).transpose(2, 0, 1)
    assert not grey.any()
    by_epoch = weighed.sum(axis=1)
    assert len(np.unique(np.round(by_epoch, 5))) == 30
    pixels = IMAGES / 255 * np.random.default_rng(1).random((8, 8, 1), np.float32)
    variance = (IMAGES / 255 * (1 - IMAGES / 255) * np.random.default_rng(1).random((8, 8, 1), np.float32) ** 2).sum()
    deviation = np.sqrt(variance / 30) / 64
    assert abs(by_epoch.mean() - pixels.sum() / 64) < 4 * deviation
    assert evaluate()[0] > 0  # Evaluated images are as the dataset gives them.


def test_dynamic_binarisation_is_the_same_with_xla_and_in_an_epoch_that_a_run_is_resumed_in() -> None:
    (first, second), evaluate = epochs_of(2)
    compiled, evaluate_compiled = epochs_of(2, xla=True)
    for ours, theirs in zip((*compiled, evaluate_compiled()), (first, second, evaluate()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    (resumed,), _ = epochs_of(2, first=1)
    np.testing.assert_array_equal(resumed, second)


def test_without_dynamic_binarisation_no_draw_is_another() -> None:
    (first,), _ = epochs_of(1, binarizes=False)
    assert first[:, 0].all()
    for step, size in enumerate((4, 4, 3)):
        expected = size * np.mean(noise(step, images=size, batch=size).normal([]))
        assert first[step, 2] == pytest.approx(expected, rel=1e-5)


def test_augmented_images_are_the_same_with_xla_and_in_an_epoch_that_a_run_is_resumed_in() -> None:
    changes = partial(epochs_of, binarizes=False, augmentation=AugmentConfig(True, 2, 0.3, 0.1))
    (first, second), evaluate = changes(2)
    (plain,), evaluate_plainly = epochs_of(1, binarizes=False)
    assert (np.abs(first[:, 1] - plain[:, 1]) > 1e-4).all()
    np.testing.assert_array_equal(evaluated := evaluate(), evaluate_plainly())  # Only training images are changed.
    compiled, evaluate_compiled = changes(2, xla=True)
    for ours, theirs in zip((*compiled, evaluate_compiled()), (first, second, evaluated), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    (resumed,), _ = changes(2, first=1)
    np.testing.assert_array_equal(resumed, second)


def test_images_are_augmented_before_they_are_binarised() -> None:
    (binary,), _ = epochs_of(1, augmentation=AugmentConfig(crop=0.5, brightness=0.3))
    assert not binary[:, 0].any()
