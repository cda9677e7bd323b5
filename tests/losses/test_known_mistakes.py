"""Mistakes that public code of these objectives has made: one test each that would see it here."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from scipy.stats import norm

from tests.losses.linear_gaussian import SIGMA, LinearGaussian, batch, value
from vae_runner.distributions.bernoulli import Bernoulli
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.importance_weighted import ImportanceWeighted, importance_weights
from vae_runner.priors.vamp import Vamp
from vae_runner.training.noise import NumpyNoise

IMAGES = 7


@pytest.fixture(scope="module")
def model() -> LinearGaussian:
    """A linear-Gaussian model of few images, whose posterior is off."""
    return LinearGaussian.make(IMAGES, seed=3)


def test_both_terms_are_sums_over_their_dimensions_and_means_over_images(model: LinearGaussian) -> None:
    # A mean over pixels next to a sum over latents is a β of as many as there are pixels.
    _, terms = Elbo()(model.autoencoder, batch(model.images), training=False)
    q = {name: parameter.astype(np.float64) for name, parameter in model.parameters().items()}
    z = q["mean"] + np.exp(q["log_var"] / 2) * np.random.default_rng(0).standard_normal(q["mean"].shape)
    decoded = model.autoencoder.decoder(z.astype(np.float32))["mean"].numpy()
    log_likelihood = norm(decoded, SIGMA).logpdf(model.images).reshape(IMAGES, -1).sum(axis=1)
    kl = 0.5 * (q["mean"] ** 2 + np.exp(q["log_var"]) - 1 - q["log_var"]).sum(axis=1)
    assert float(terms["reconstruction"]) == pytest.approx(-log_likelihood.mean(), rel=1e-5)
    assert float(terms["kl"]) == pytest.approx(kl.mean(), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_weight_of_the_kl_is_the_same_in_training_and_evaluation_and_not_in_the_term(
    training: bool, model: LinearGaussian
) -> None:
    loss, terms = Elbo(kl_weight=4)(model.autoencoder, batch(model.images), training=training)
    _, plain = Elbo()(model.autoencoder, batch(model.images), training=False)
    assert float(terms["kl"]) == pytest.approx(float(plain["kl"]), rel=1e-6)
    assert float(loss) == pytest.approx(float(plain["reconstruction"]) + 4 * float(plain["kl"]), rel=1e-5)


def test_the_elbo_is_of_a_draw_also_in_evaluation(model: LinearGaussian) -> None:
    # What is decoded from the posterior's mean is no bound.
    assert value(Elbo(), model, seed=0) != value(Elbo(), model, seed=1)


@pytest.mark.parametrize("log_var", [-12.0, 0.0, 6.0])
def test_a_draw_and_its_density_take_the_same_variance(log_var: float) -> None:
    # A clamp, or a softplus, in one of the two places only.
    q = DiagonalGaussian(tf.zeros([20_000, 1]), tf.fill([20_000, 1], log_var))
    z = q.sample(NumpyNoise(np.random.default_rng(0), 20_000))
    assert float(tf.math.reduce_std(z)) == pytest.approx(np.exp(log_var / 2), rel=0.02)
    assert -float(tf.reduce_mean(q.log_prob(z))) == pytest.approx(float(q.entropy()[0]), abs=0.03)


def test_an_images_bound_is_the_logarithm_of_the_mean_weight_of_its_own_draws(model: LinearGaussian) -> None:
    # The axes of images and draws swapped, log K forgotten, or a mean of logarithms.
    samples = IMAGES  # equal lengths hide swapped axes from every shape check
    q = {name: parameter.astype(np.float64) for name, parameter in model.parameters().items()}
    noise = np.random.default_rng(0).standard_normal((IMAGES, samples, q["mean"].shape[1]))
    bounds = []
    for i in range(IMAGES):
        deviation = np.exp(q["log_var"][i] / 2)
        z = q["mean"][i] + deviation * noise[i]
        decoded = model.autoencoder.decoder(z.astype(np.float32))["mean"].numpy().reshape(samples, -1)
        log_w = norm(decoded, SIGMA).logpdf(model.images[i].ravel()).sum(axis=1)
        log_w += norm.logpdf(z).sum(axis=1) - norm(q["mean"][i], deviation).logpdf(z).sum(axis=1)
        bounds.append(logsumexp(log_w) - np.log(samples))
    assert -value(ImportanceWeighted(samples=samples), model) == pytest.approx(np.mean(bounds), rel=1e-5)


def test_the_best_draw_has_the_greatest_part_in_the_gradient(model: LinearGaussian) -> None:
    # A softmax of losses instead of log-weights lets the worst draw lead.
    with tf.GradientTape() as tape:
        log_w = importance_weights(model.autoencoder, batch(model.images), 6, training=False).log_w
        tape.watch(log_w)
        bound = ImportanceWeighted(samples=6)._bound(log_w[:, tf.newaxis, :])
    parts = tape.gradient(bound, log_w).numpy()
    np.testing.assert_array_equal(parts.argmax(axis=1), log_w.numpy().argmax(axis=1))
    np.testing.assert_allclose(parts.sum(axis=1), 1 / IMAGES, rtol=1e-5)


def test_a_vampprior_draws_from_all_its_pseudo_inputs_and_has_their_mixtures_density(model: LinearGaussian) -> None:
    # Samples of N(0, I), or of the first pseudo-inputs only; a KL in closed form, which a mixture does not have.
    prior = Vamp(3)
    prior.create_weights(model.autoencoder.image_shape, model.autoencoder.latent_shape, 0)
    prior.set_weights([np.stack([np.full((3, 3, 1), level, np.float32) for level in (0.0, 0.5, 1.0)])])
    mixture = prior.distribution(model.autoencoder)
    q = model.autoencoder.encode(tf.constant(prior.get_weights()[0]))
    deviations = np.exp(q.log_var.numpy() / 2)
    z = mixture.sample(NumpyNoise(np.random.default_rng(0), 6000)).numpy()
    log_parts = norm(q.mean.numpy(), deviations).logpdf(z[:, np.newaxis]).sum(axis=2)
    np.testing.assert_allclose(mixture.log_prob(z), logsumexp(log_parts, axis=1) - np.log(3), rtol=1e-4, atol=1e-4)
    responsibilities = np.exp(log_parts - logsumexp(log_parts, axis=1, keepdims=True))
    np.testing.assert_allclose(responsibilities.mean(axis=0), 1 / 3, atol=0.03)


def test_a_wrong_pixel_of_a_certain_decoder_costs_its_logit_and_keeps_its_gradient() -> None:
    # A sigmoid, clipped and then a logarithm: at most 16.1 nats a pixel, and no gradient; a sigmoid twice: 0.69.
    logit = tf.constant([[[[60.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(logit)
        error = Bernoulli(logit).error(tf.zeros([1, 1, 1, 1]))
    assert float(error[0]) == pytest.approx(60, rel=1e-6)
    assert tape.gradient(error, logit).numpy().item() == pytest.approx(1, rel=1e-6)
