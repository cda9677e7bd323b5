"""Networks and priors that depend on labels."""

from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.networks import build
from vae_runner.acceleration.fuse import fuse
from vae_runner.distributions.base import Distribution
from vae_runner.distributions.divergence import kl_by_dimension
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.mixture import GaussianMixture
from vae_runner.models import conv, mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.priors.class_conditional import ClassConditional
from vae_runner.priors.vamp import Vamp
from vae_runner.training.noise import NumpyNoise

CLASSES = 3
LABELS = np.array([0, 2, 1, 2, 2, 0])
IMAGES = np.random.default_rng(0).random((6, 9, 11, 3), np.float32)
MODELS = pytest.mark.parametrize("model", [conv, mlp])


def given(distribution: Distribution) -> DiagonalGaussian:
    """The same, of which it is known what it is."""
    assert isinstance(distribution, DiagonalGaussian)
    return distribution


@MODELS
def test_both_networks_take_the_label_as_a_second_input(model: ModuleType) -> None:
    autoencoder = build((9, 11, 3), 2, model=model, classes=CLASSES)
    for network, first in ((autoencoder.encoder, "images"), (autoencoder.decoder, "z")):
        assert [tensor.name for tensor in network.inputs] == [first, "label"]
    assert (autoencoder.latent, autoencoder.image_shape) == (2, (9, 11, 3))
    one_hot = np.eye(CLASSES, dtype=np.float32)[LABELS]
    z = autoencoder.encode(IMAGES, LABELS).mean
    np.testing.assert_array_equal(z, autoencoder.encoder([tf.constant(IMAGES), tf.constant(one_hot)])["mean"])
    other = np.roll(LABELS, 1)
    differ = np.abs(z - autoencoder.encode(IMAGES, other).mean).max(axis=1) > 1e-3
    np.testing.assert_array_equal(differ, other != LABELS)
    images = autoencoder.decode(z, LABELS).mean
    differ = np.abs(images - autoencoder.decode(z, other).mean).max(axis=(1, 2, 3)) > 1e-4
    np.testing.assert_array_equal(differ, other != LABELS)
    np.testing.assert_array_equal(autoencoder.reconstruct(IMAGES, LABELS), images)


@MODELS
def test_the_fused_view_of_conditional_networks_computes_the_same_with_the_same_gradients(model: ModuleType) -> None:
    autoencoder = build((9, 11, 3), 2, model=model, classes=CLASSES)
    view = Autoencoder(
        fuse(autoencoder.encoder), fuse(autoencoder.decoder), autoencoder.posterior, autoencoder.prior,
        autoencoder.likelihood, CLASSES,
    )  # fmt: skip
    assert view.encoder is not autoencoder.encoder
    results, labels = [], tf.constant(LABELS)
    for one in (autoencoder, view):
        with tf.GradientTape() as tape:
            z = tf.add_n(list(one.parameters(tf.constant(IMAGES), labels, training=True).values()))
            images = one.decode(z, labels, training=True).mean
            loss = tf.reduce_sum(tf.square(images - IMAGES)) + tf.reduce_sum(tf.sin(z))
        variables = [variable.value for variable in autoencoder.trainable_variables]
        results.append([z, images, *tape.gradient(loss, variables)])
    for plain, fused in zip(*results, strict=True):
        np.testing.assert_allclose(plain, fused, rtol=1e-4, atol=1e-4)
        assert np.abs(plain).max() > 0
    np.testing.assert_allclose(autoencoder.reconstruct(IMAGES, LABELS), view.reconstruct(IMAGES, LABELS), atol=1e-5)


def class_conditional() -> tuple[Autoencoder, tfp.distributions.Distribution]:
    """An autoencoder with a prior that has moved, and what that is of `LABELS`."""
    rng = np.random.default_rng(1)
    autoencoder = build((8, 8, 1), 2, model=mlp, prior=ClassConditional(), classes=CLASSES, width=4)
    means, log_vars = rng.normal(size=(2, 2, CLASSES))
    for variable, values in zip(autoencoder.prior.trainable_variables, (means, log_vars), strict=True):
        variable.assign(values)
    expected = tfp.distributions.MultivariateNormalDiag(
        means.T[LABELS].astype(np.float32), np.exp(log_vars / 2).T[LABELS].astype(np.float32)
    )
    return autoencoder, expected


def test_the_class_conditional_prior_is_a_gaussian_of_each_images_class() -> None:
    autoencoder, expected = class_conditional()
    prior = given(autoencoder.latent_prior(tf.constant(LABELS)))
    z = np.random.default_rng(2).normal(size=(6, 2)).astype(np.float32)
    np.testing.assert_allclose(prior.log_prob(z), expected.log_prob(z), rtol=1e-5)
    draws = np.stack([prior.sample(NumpyNoise(np.random.default_rng(seed), 6)) for seed in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), expected.mean(), atol=0.15)
    np.testing.assert_allclose(draws.std(axis=0), expected.stddev(), rtol=0.06)


def test_the_kl_term_to_the_class_conditional_prior_is_closed() -> None:
    autoencoder, expected = class_conditional()
    rng = np.random.default_rng(3)
    mean, log_var = rng.normal(size=(2, 6, 2)).astype(np.float32)
    kl = kl_by_dimension(DiagonalGaussian(mean, log_var), autoencoder.latent_prior(tf.constant(LABELS)))
    assert kl is not None
    posterior = tfp.distributions.MultivariateNormalDiag(mean, np.exp(log_var / 2))
    np.testing.assert_allclose(np.sum(kl, axis=1), tfp.distributions.kl_divergence(posterior, expected), rtol=1e-5)


def test_the_gradient_of_a_class_is_one_number_however_many_images_are_of_it() -> None:
    autoencoder, _ = class_conditional()
    weights = [variable.value for variable in autoencoder.prior.trainable_variables]
    z = np.random.default_rng(2).normal(size=(6, 2)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        prior = given(autoencoder.latent_prior(tf.constant(LABELS)))
        loss = -tf.reduce_sum(prior.log_prob(z))
    by_mean, by_log_var = tape.gradient(loss, weights)
    assert isinstance(by_mean, tf.Tensor)
    assert isinstance(by_log_var, tf.Tensor)
    of_images = (prior.mean - z) / prior.variance
    for label in range(CLASSES):
        np.testing.assert_allclose(by_mean[:, label], np.sum(of_images[label == LABELS], axis=0), rtol=1e-4)


def test_pseudo_inputs_of_a_conditional_encoder_are_of_the_classes_in_turn() -> None:
    autoencoder = build((8, 8, 1), 2, model=mlp, prior=Vamp(5), classes=CLASSES, width=4)
    prior = autoencoder.latent_prior()
    assert isinstance(prior, GaussianMixture)
    (pseudo_inputs,) = autoencoder.prior.trainable_variables
    expected = given(autoencoder.encode(tf.clip_by_value(pseudo_inputs, 0, 1), np.array([0, 1, 2, 0, 1])))
    np.testing.assert_allclose(prior.means, expected.mean, rtol=1e-6)
