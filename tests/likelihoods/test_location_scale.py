"""The scale that fits a batch best."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.linear_gaussian import LinearGaussian
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.likelihoods.laplace import Laplace
from vae_runner.likelihoods.location_scale import FIRST_SCALE, SharedScale
from vae_runner.losses.base import Batch
from vae_runner.losses.importance_weighted import ImportanceWeighted, importance_weights
from vae_runner.training.noise import NumpyNoise

RNG = np.random.default_rng(0)
IMAGES = tf.constant(RNG.random((5, 4, 3, 2)), tf.float32)
MEANS = tf.constant(RNG.random((5, 4, 3, 2)), tf.float32)
PIXELS = 4 * 3 * 2


def gaussian_nll(mean: tf.Tensor) -> tf.Tensor:
    """(D/2) (1 + log 2π + log MSE) (Rybkin et al., 2021)."""
    error = tf.reduce_mean(tf.square(IMAGES - mean))
    return PIXELS / 2 * (1 + math.log(2 * math.pi) + tf.math.log(error))


def laplace_nll(mean: tf.Tensor) -> tf.Tensor:
    """D (1 + log 2b) with b the mean absolute error, of Laplace distributions."""
    return PIXELS * (1 + tf.math.log(2 * tf.reduce_mean(tf.abs(IMAGES - mean))))


OPTIMAL = {Gaussian: gaussian_nll, Laplace: laplace_nll}


@pytest.mark.parametrize("family", OPTIMAL)
def test_of_the_batch_fitted_to_the_mean_nll_and_its_gradient_have_a_closed_form(family: type[SharedScale]) -> None:
    likelihood = family("optimal", squash_mean=False)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(MEANS)
        fitted = likelihood.fitted(likelihood.distribution({"mean": MEANS}), IMAGES, tf.identity)
        ours, theirs = tf.reduce_mean(fitted.error(IMAGES)), OPTIMAL[family](MEANS)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, MEANS), tape.gradient(theirs, MEANS), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", OPTIMAL)
def test_outside_training_the_scale_is_the_average_of_training_steps_whatever_the_images_are(
    family: type[SharedScale],
) -> None:
    """A σ made of the test images would know them."""
    likelihood = family("optimal", squash_mean=False)
    assert not likelihood.trainable_variables
    assert float(likelihood.log_scale) == pytest.approx(math.log(FIRST_SCALE))
    average, part = 0.0, 0.0
    for step in range(4):
        mean = MEANS + 0.1 * step
        likelihood.fitted(likelihood.distribution({"mean": mean}), IMAGES, tf.identity)
        average = 0.9 * average + 0.1 * float(tf.reduce_mean(tf.abs(IMAGES - mean) ** family.power))
        part = 0.9 * part + 0.1
        expected = math.log(average / part) / family.power
        assert float(likelihood.log_scale) == pytest.approx(expected, rel=1e-4)
    alone = likelihood.distribution({"mean": MEANS[:2]}).error(IMAGES[:2])
    np.testing.assert_allclose(likelihood.distribution({"mean": MEANS}).error(IMAGES)[:2], alone, rtol=1e-6)
    assert float(likelihood.log_scale) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("family", OPTIMAL)
def test_where_nothing_is_wrong_the_scale_stays_above_its_floor(family: type[SharedScale]) -> None:
    likelihood = family("optimal", squash_mean=False)
    with tf.GradientTape() as tape:
        tape.watch(IMAGES)
        fitted = likelihood.fitted(likelihood.distribution({"mean": IMAGES}), IMAGES, tf.identity)
        error = fitted.error(IMAGES)
    assert np.isfinite(error).all()
    assert np.isfinite(tape.gradient(error, IMAGES)).all()
    assert float(likelihood.log_scale) == pytest.approx(-7, abs=1e-4)


def test_other_scales_are_as_they_were() -> None:
    assert float(Gaussian(0.1, squash_mean=True).log_scale) == pytest.approx(math.log(0.1))
    learned = Gaussian(None, squash_mean=True)
    distribution = learned.distribution({"mean": MEANS})
    assert learned.fitted(distribution, IMAGES, tf.identity) is distribution


def test_of_several_draws_the_scale_is_that_of_all_errors() -> None:
    model = LinearGaussian.make(20)
    likelihood = Gaussian("optimal", squash_mean=False)
    autoencoder = model.autoencoder.__class__(**{**vars(model.autoencoder), "likelihood": likelihood})
    gathered = []

    def batch() -> Batch:
        def gather(values: tf.Tensor) -> tf.Tensor:
            gathered.append(values.numpy())
            return values

        noise = NumpyNoise(np.random.default_rng(1), 20)
        return Batch(tf.constant(model.images), None, noise, tf.constant(np.inf), gather=gather)

    weights = importance_weights(autoencoder, batch(), 6, training=True)
    (of_images,) = gathered
    assert of_images.shape == (20,)
    # The mean of −log p(x|z) over images and draws is that of the optimum.
    expected = 9 / 2 * (1 + math.log(2 * math.pi) + math.log(of_images.mean()))
    assert -float(tf.reduce_mean(weights.log_likelihood)) == pytest.approx(expected, rel=1e-5)
    assert float(likelihood.log_scale) == pytest.approx(math.log(of_images.mean()) / 2, rel=1e-5)
    # In evaluation nothing is fitted.
    ImportanceWeighted(samples=6)(autoencoder, batch(), training=False)
    assert len(gathered) == 1
