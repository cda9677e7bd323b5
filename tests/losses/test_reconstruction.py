"""Denoising, contractive and sparse autoencoders."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.acceleration.comparing import load_custom_ops
from tests.losses.linear_gaussian import LinearGaussian
from tests.networks import build
from vae_runner.acceleration.fuse import fuse
from vae_runner.losses.base import Batch, Loss
from vae_runner.losses.reconstruction import Reconstruction
from vae_runner.losses.regularized import Regularized
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.point import Point
from vae_runner.training.noise import GivenNoise, NumpyNoise


@pytest.fixture(scope="module")
def model() -> LinearGaussian:
    """A linear encoder and decoder."""
    return LinearGaussian.make(500)


def batch(images: np.ndarray, seed: int = 0) -> Batch:
    noise = NumpyNoise(np.random.default_rng(seed), len(images))
    return Batch(tf.constant(images), None, noise, tf.constant(np.inf, tf.float32))


def without_draws(images: np.ndarray) -> Batch:
    return batch(images)._replace(noise=GivenNoise([]))


def test_noise_is_on_the_encoders_images_in_training_alone_and_the_target_has_none(model: LinearGaussian) -> None:
    """The denoising autoencoder of Vincent et al. (2008)."""
    noise = np.random.default_rng(3).normal(size=model.images.shape).astype(np.float32)
    given = without_draws(model.images)._replace(noise=GivenNoise([tf.constant(noise)]))
    loss, terms = Reconstruction(noise_scale=0.3)(model.autoencoder, given, training=True)
    z = model.autoencoder.encode(tf.constant(model.images + 0.3 * noise)).mean
    expected = tf.reduce_mean(model.autoencoder.decode(z).error(tf.constant(model.images)))
    assert float(loss) == float(terms["reconstruction"]) == pytest.approx(float(expected), rel=1e-5)
    clean, _ = Reconstruction()(model.autoencoder, without_draws(model.images), training=True)
    evaluated, _ = Reconstruction(noise_scale=0.3)(model.autoencoder, without_draws(model.images), training=False)
    assert float(evaluated) == float(clean) < float(loss)


def test_the_contraction_is_the_jacobians_norm_in_the_mean(model: LinearGaussian) -> None:
    kernel = model.autoencoder.encoder.get_layer("mean").get_weights()[0].astype(np.float64)
    objective = Reconstruction(contractive_weight=3.0)
    assert objective.terms == ("reconstruction", "contraction")
    results = [objective(model.autoencoder, batch(model.images, seed), training=True) for seed in range(5)]
    contractions = [float(terms["contraction"]) for _, terms in results]
    assert np.mean(contractions) == pytest.approx((kernel**2).sum(), rel=0.05)
    loss, terms = results[0]
    assert float(loss) == pytest.approx(float(terms["reconstruction"]) + 3 * contractions[0], rel=1e-5)


def test_sparsity_is_of_absolute_values_or_of_mean_activations(model: LinearGaussian) -> None:
    z = model.parameters()["mean"].astype(np.float64)
    loss, terms = Reconstruction(sparsity_weight=2.0)(model.autoencoder, without_draws(model.images), training=True)
    assert float(terms["sparsity"]) == pytest.approx(np.abs(z).sum(1).mean(), rel=1e-4)
    assert float(loss) == pytest.approx(float(terms["reconstruction"]) + 2 * float(terms["sparsity"]), rel=1e-5)
    activation = (1 / (1 + np.exp(-z))).mean(0)
    expected = (0.2 * np.log(0.2 / activation) + 0.8 * np.log(0.8 / (1 - activation))).sum()
    objective = Reconstruction(sparsity_weight=2.0, sparsity_target=0.2)
    _, terms = objective(model.autoencoder, without_draws(model.images), training=True)
    assert float(terms["sparsity"]) == pytest.approx(expected, rel=1e-4)


def test_a_target_has_finite_values_and_gradients_at_codes_far_out(model: LinearGaussian) -> None:
    objective = Reconstruction(sparsity_weight=1.0, sparsity_target=0.05)
    with tf.GradientTape() as tape:
        images = tf.constant(1e4 * model.images)
        tape.watch(images)
        terms = objective(model.autoencoder, without_draws(model.images)._replace(images=images), training=True)[1]
    assert np.isfinite(terms["sparsity"])
    assert np.isfinite(tape.gradient(terms["sparsity"], images)).all()


@pytest.mark.parametrize("loss", [Reconstruction(contractive_weight=1.0), Regularized(gradient_penalty=1.0)], ids=str)
def test_a_jacobians_penalty_has_the_gradient_of_differences_also_through_a_faster_network(loss: Loss) -> None:
    """It takes the gradient of a gradient, also through batch normalisation and what operations of our own compute."""
    keras.utils.set_random_seed(0)
    # Nearly linear: where a difference changes the sign of a unit, the Jacobian is another.
    autoencoder = build((12, 12, 1), 4, Point(), filters=16, leaky_relu_slope=0.999)
    images = np.random.default_rng(0).random((6, 12, 12, 1), np.float32)
    name = "contraction" if isinstance(loss, Reconstruction) else "penalty"
    network = "encoder" if isinstance(loss, Reconstruction) else "decoder"
    variables = [variable.value for variable in getattr(autoencoder, network).trainable_variables]

    def gradients(network: Autoencoder) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(variables)
            penalty = loss(network, batch(images), training=False)[1][name]
        assert float(penalty) > 0
        return [gradient.numpy() for gradient in tape.gradient(penalty, variables, unconnected_gradients="zero")]

    loss(autoencoder, batch(images), training=True)  # Moving averages are no longer what they begin with.
    plain = gradients(autoencoder)
    kernel, step, steepest = variables[0], 0.03, np.linalg.norm(plain[0])
    first, values = kernel.numpy(), []
    for factor in (step, -step):
        kernel.assign(first + factor * plain[0] / steepest)
        values.append(float(loss(autoencoder, batch(images), training=False)[1][name]))
    kernel.assign(first)
    assert steepest == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)
    # Biases have next to no gradient in a network that is nearly linear: what rounding leaves of the others' terms.
    largest = max(np.abs(gradient).max() for gradient in plain)
    for operations in (None, load_custom_ops()):
        faster = {part: fuse(getattr(autoencoder, part), operations) for part in ("encoder", "decoder")}
        for ours, theirs in zip(gradients(Autoencoder(**{**vars(autoencoder), **faster})), plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * largest)
