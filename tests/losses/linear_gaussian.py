"""A linear model with Gaussian noise, whose every quantity has a closed form: p(x), the exact posterior, all bounds."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from vae_runner.likelihoods.gaussian import Gaussian as GaussianLikelihood
from vae_runner.losses.base import Batch, Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.priors.normal import Normal
from vae_runner.training.noise import NumpyNoise

SIDE, LATENT, SIGMA = 3, 2, 0.5


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + b + σ ε, z ~ N(0, I), with an encoder that gives N(A x + c, diag(exp(log_var)))."""

    autoencoder: Autoencoder
    images: np.ndarray  # [n, SIDE, SIDE, 1]: draws of the model
    log_p: np.ndarray  # log p(x) of each

    @classmethod
    def make(cls, count: int, *, exact: bool = False, seed: int = 0) -> "LinearGaussian":
        """One with the exact posterior, whose columns of W are then orthogonal, or with one that is off."""
        rng = np.random.default_rng(seed)
        pixels = SIDE * SIDE
        weights = np.linalg.qr(rng.normal(size=(pixels, LATENT)))[0] * [1.5, 0.7]
        bias = rng.normal(0, 0.3, pixels)
        precision = np.eye(LATENT) + weights.T @ weights / SIGMA**2  # diagonal, as the columns are orthogonal
        to_mean = np.linalg.solve(precision, weights.T) / SIGMA**2
        mean_bias, log_var = -to_mean @ bias, -np.log(np.diag(precision))
        if not exact:
            to_mean, mean_bias = 0.8 * to_mean, mean_bias + np.array([0.2, -0.1])
            log_var = log_var + np.array([0.5, -0.4])
        images = keras.Input((SIDE, SIDE, 1))
        features = keras.layers.Flatten()(images)
        heads = {name: keras.layers.Dense(LATENT, name=name)(features) for name in ("log_var", "mean")}
        encoder = keras.Model(images, heads)
        encoder.get_layer("mean").set_weights([to_mean.T, mean_bias])
        encoder.get_layer("log_var").set_weights([np.zeros((pixels, LATENT)), log_var])
        z = keras.Input((LATENT,))
        decoded = keras.layers.Dense(pixels, name="linear")
        decoder = keras.Model(z, {"mean": keras.layers.Reshape((SIDE, SIDE, 1), name="mean")(decoded(z))})
        decoder.get_layer("linear").set_weights([weights.T, bias])
        x = rng.normal(size=(count, LATENT)) @ weights.T + bias + SIGMA * rng.normal(size=(count, pixels))
        log_p = stats.multivariate_normal(bias, weights @ weights.T + SIGMA**2 * np.eye(pixels)).logpdf(x)
        likelihood = GaussianLikelihood(SIGMA, squash_mean=False)
        autoencoder = Autoencoder(encoder, decoder, Gaussian(), Normal(), likelihood)
        return cls(autoencoder, x.reshape(-1, SIDE, SIDE, 1).astype(np.float32), log_p)

    def parameters(self) -> Mapping[str, np.ndarray]:
        """The posteriors' parameters of all images."""
        return {name: value.numpy() for name, value in self.autoencoder.encoder(self.images).items()}


def batch(images: np.ndarray, seed: int = 0, epoch: float = np.inf, split_size: int | None = None) -> Batch:
    """The images, with noise of this seed."""
    noise = NumpyNoise(np.random.default_rng(seed), len(images))
    return Batch(tf.constant(images), None, noise, tf.constant(epoch, tf.float32), split_size or len(images))


def value(loss: Loss, model: LinearGaussian, seed: int = 0) -> float:
    """What the loss is for the model's images."""
    return float(loss(model.autoencoder, batch(model.images, seed), training=False)[0])
