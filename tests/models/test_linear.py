"""The linear network is probabilistic PCA (Tipping & Bishop, 1999)."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from tests.networks import build
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR
from vae_runner.losses.base import Batch
from vae_runner.losses.elbo import Elbo
from vae_runner.models import linear
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.training.noise import GivenNoise

LATENT = 5


def test_there_is_one_dense_layer_a_parameter_and_nothing_else() -> None:
    autoencoder = build((8, 9, 3), 4, model=linear)
    layers = [*autoencoder.encoder.layers, *autoencoder.decoder.layers]
    assert [layer.name for layer in layers if layer.weights] == ["log_var", "mean", "mean_pixels"]
    assert {type(layer).__name__ for layer in layers} == {"InputLayer", "Flatten", "Dense", "Reshape"}


def negative_elbo(autoencoder: Autoencoder, images: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """−ELBO, and its gradients; exact, without noise.

    What it is the mean of is a quadratic function of z, whose mean over draws is that over the points ±√LATENT eᵢ.
    """
    points = (np.sqrt(LATENT) * np.concatenate([np.eye(LATENT), -np.eye(LATENT)])).astype(np.float32)
    noise = GivenNoise([tf.tile(points, [len(images), 1])])
    batch = Batch(tf.repeat(images, len(points), axis=0), None, noise, tf.constant(0.0))
    with tf.GradientTape() as tape:
        loss, _ = Elbo()(autoencoder, batch, True)
    gradients = tape.gradient(loss, [variable.value for variable in autoencoder.trainable_variables])
    return float(loss), [np.asarray(gradient) for gradient in gradients]


def test_with_a_gaussian_likelihood_the_elbo_is_the_evidence_of_probabilistic_pca_and_greatest_there() -> None:
    images = (load_digits().images[:300, ..., np.newaxis] / 16).astype(np.float32)
    data = images.reshape(len(images), -1).astype(np.float64)
    mean, covariance = data.mean(axis=0), np.cov(data.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    variance = values[LATENT:].mean()
    loadings = vectors[:, :LATENT] * np.sqrt(values[:LATENT] - variance)
    precision = np.sum(loadings**2, axis=0) + variance  # M, which is diagonal for these loadings

    autoencoder = build((8, 8, 1), LATENT, model=linear, likelihood=Gaussian(scale=None, squash_mean=False))
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    map_to_mean = loadings / precision
    encoder.get_layer("mean").set_weights([map_to_mean, -mean @ map_to_mean])
    encoder.get_layer("log_var").set_weights([np.zeros((64, LATENT)), np.log(variance / precision)])
    decoder.get_layer("mean_pixels").set_weights([loadings.T, mean])
    above_floor = np.log(variance) / 2 - LOG_SCALE_FLOOR
    autoencoder.likelihood.set_weights([LOG_SCALE_FLOOR + np.log(np.expm1(above_floor))])

    loss, gradients = negative_elbo(autoencoder, images)
    full = loadings @ loadings.T + variance * np.eye(64)
    log_evidence = (
        -(64 * np.log(2 * np.pi) + np.linalg.slogdet(full)[1] + np.trace(np.linalg.solve(full, covariance))) / 2
    )
    np.testing.assert_allclose(loss, -log_evidence, rtol=1e-4)

    decoder.get_layer("mean_pixels").set_weights([1.05 * loadings.T, mean + 0.01])
    keras.tree.map_structure(lambda layer: layer.bias.assign_add([0.05] * LATENT), encoder.layers[-2:])
    elsewhere, others = negative_elbo(autoencoder, images)
    assert elsewhere > loss
    for gradient, other in zip(gradients, others, strict=True):
        assert np.abs(gradient).max() < 0.01 * np.abs(other).max()  # float32: they are sums of terms that cancel
