"""Probabilistic PCA, of which everything is known in closed form, as an autoencoder of uint8 images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.networks import build
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.models import linear
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.full_gaussian import SMALLEST_DEVIATION, FullGaussian

SIDE, LATENT = 4, 4
PIXELS = SIDE * SIDE
SCALE = 0.03  # from the units of x to those of pixels in [0, 1], around 0.5: all images are well inside


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + σ ε, and pixels 0.5 + SCALE · x."""

    loadings: NDArray[np.float64]  # W, [PIXELS, LATENT]
    variance: float = 0.1  # σ²
    center: NDArray[np.float64] | float = 0.5

    @property
    def precision(self) -> NDArray[np.float64]:
        """M = WᵀW + σ²I; the posterior is N(M⁻¹Wᵀx, σ²M⁻¹)."""
        return self.loadings.T @ self.loadings + self.variance * np.eye(LATENT)

    def pixels(self, count: int, seed: int = 1) -> NDArray[np.uint8]:
        """Images drawn from the model, of 256 levels."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(count, LATENT)) @ self.loadings.T
        x += np.sqrt(self.variance) * rng.normal(size=(count, PIXELS))
        levels = np.round(255 * (self.center + SCALE * x))
        assert levels.min() >= 0
        assert levels.max() <= 255
        return levels.astype(np.uint8).reshape(count, SIDE, SIDE, 1)

    def x(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The x of images, [n, PIXELS]."""
        return (pixels.reshape(len(pixels), -1) / 255 - self.center) / SCALE

    def log_evidence(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The log-density of images at their pixels in [0, 1], [n]."""
        covariance = self.loadings @ self.loadings.T + self.variance * np.eye(PIXELS)
        x = self.x(pixels)
        square = np.sum(x * np.linalg.solve(covariance, x.T).T, axis=1)
        log_det = np.linalg.slogdet(covariance)[1] + 2 * PIXELS * np.log(SCALE)
        return -0.5 * (PIXELS * np.log(2 * np.pi) + log_det + square)

    def autoencoder(
        self, deviations: NDArray[np.float64] | None = None, shift: NDArray[np.float64] | float = 0.0, gain: float = 1.0
    ) -> Autoencoder:
        """An autoencoder with the model's decoder. q(z|x) is exact, or Gaussian with these standard deviations.

        Its mean is then `gain` times the exact one, plus `shift`.
        """
        exact = deviations is None
        autoencoder = build(
            (SIDE, SIDE, 1), LATENT, FullGaussian() if exact else None, linear,
            Gaussian(scale=SCALE * np.sqrt(self.variance), squash_mean=False),
        )  # fmt: skip
        to_mean = gain * self.loadings @ np.linalg.inv(self.precision) / SCALE
        encoder = autoencoder.encoder
        center = np.broadcast_to(self.center, PIXELS)
        encoder.get_layer("mean").set_weights([to_mean, shift - center @ to_mean])
        if exact:
            scale = np.linalg.cholesky(self.variance * np.linalg.inv(self.precision))
            np.fill_diagonal(scale, np.log(np.expm1(np.diag(scale) - SMALLEST_DEVIATION)))
            entries = scale[np.tril_indices(LATENT)]
            encoder.get_layer("scale").set_weights([np.zeros((PIXELS, len(entries))), entries])
        else:
            encoder.get_layer("log_var").set_weights([np.zeros((PIXELS, LATENT)), 2 * np.log(deviations)])
        autoencoder.decoder.get_layer("mean_pixels").set_weights([SCALE * self.loadings.T, center])
        return autoencoder


def reference() -> LinearGaussian:
    """The model of the tables in the literature's units: D = 16, L = 4, σ² = 0.1."""
    return LinearGaussian(np.random.default_rng(0).normal(size=(PIXELS, LATENT)))


def principal(count: int = 2000) -> tuple[LinearGaussian, NDArray[np.uint8], NDArray[np.float64]]:
    """The most likely model of images that were drawn from the reference, the images, and their eigenvalues λ_j.

    Its columns are orthogonal (Tipping & Bishop, 1999: W = U (Λ − σ²I)^½), so that a diagonal q(z|x) is exact.
    """
    pixels = reference().pixels(count)
    center = pixels.reshape(count, -1).mean(axis=0) / 255
    values, vectors = np.linalg.eigh(np.cov((pixels.reshape(count, -1) / 255 - center).T / SCALE, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    variance = values[LATENT:].mean()
    loadings = vectors[:, :LATENT] * np.sqrt(values[:LATENT] - variance)
    return LinearGaussian(loadings, float(variance), center), pixels, values[:LATENT]


def load(**_: object) -> Dataset:
    """Linear-Gaussian images of 8×8 pixels, as a dataset."""
    rng = np.random.default_rng(7)
    count, side = 2000, 8
    x = rng.normal(size=(count, LATENT)) @ rng.normal(scale=0.04, size=(LATENT, side**2))
    levels = np.clip(np.round(255 * (0.5 + x + 0.1 * rng.normal(size=x.shape))), 0, 255)
    split = Split(levels.astype(np.uint8).reshape(count, side, side, 1))
    return Dataset(split, split)


def greatest_evidence(
    pixels: NDArray[np.uint8], others: NDArray[np.uint8] | None = None, latent: int = LATENT
) -> float:
    """The mean log-density of images, or of others, under the most likely probabilistic PCA of the first.

    Its covariance C has their `latent` largest eigenvalues, and the mean of the others in place of these. Of the images
    themselves it is −½ (D log 2π + log |C| + D).
    """
    train = pixels.reshape(len(pixels), -1) / 255
    center, dimensions = train.mean(axis=0), train.shape[1]
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    values[:-latent] = values[:-latent].mean()
    x = train if others is None else others.reshape(len(others), -1) / 255
    squares = np.sum(np.square((x - center) @ vectors) / values, axis=1)
    return float(-0.5 * (dimensions * np.log(2 * np.pi) + np.log(values).sum() + squares.mean()))
