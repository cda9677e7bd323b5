"""Importance-weighted likelihoods, held against probabilistic PCA through the networks that `vae-run` trains."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tests.conftest import examples
from tests.evaluation.linear_gaussian import LATENT, PIXELS, greatest_evidence, principal, reference
from tests.networks import build
from tests.small_experiments import built
from vae_runner.errors import UserError
from vae_runner.evaluation.likelihood import (
    CounterNoise,
    RunningWeights,
    bits_per_dimension,
    log_likelihood,
    standard_error,
    with_fitted_sigma,
)
from vae_runner.likelihoods.bernoulli import Bernoulli
from vae_runner.likelihoods.cross_entropy import CrossEntropy
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.models import linear, mlp
from vae_runner.posteriors.planar import Planar
from vae_runner.posteriors.point import Point
from vae_runner.posteriors.power_spherical import PowerSpherical
from vae_runner.priors.class_conditional import ClassConditional
from vae_runner.priors.sphere import Sphere
from vae_runner.priors.vamp import Vamp

MODEL = reference()
DEVIATIONS = np.sqrt(MODEL.variance / np.diag(MODEL.precision))  # of the best diagonal q
GAP = 0.5 * (np.log(np.diag(MODEL.precision)).sum() - np.linalg.slogdet(MODEL.precision)[1])
FLOAT32 = 2e-4  # nats: what sums over 16 pixels in float32 lose


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def test_with_the_exact_posterior_every_weight_is_the_evidence() -> None:
    pixels = MODEL.pixels(20)
    bounds = log_likelihood(MODEL.autoencoder(), pixels, samples=3)
    expected = MODEL.log_evidence(pixels)
    np.testing.assert_allclose(bounds.log_likelihood, expected, atol=FLOAT32)
    np.testing.assert_allclose(bounds.effective_samples, 3, atol=1e-6)
    np.testing.assert_allclose(bounds.largest_share, 1 / 3, atol=FLOAT32)
    assert bounds.is_tight


def test_the_gap_of_the_elbo_is_the_divergence_from_the_exact_posterior() -> None:
    assert pytest.approx(0.241, abs=5e-4) == GAP
    pixels = MODEL.pixels(500)
    bounds = log_likelihood(MODEL.autoencoder(DEVIATIONS), pixels, samples=20)
    mean = MODEL.x(pixels) @ MODEL.loadings @ np.linalg.inv(MODEL.precision)
    rate = 0.5 * np.sum(mean**2 + DEVIATIONS**2 - 1 - 2 * np.log(DEVIATIONS), axis=1)
    np.testing.assert_allclose(bounds.rate, rate, rtol=1e-5)
    gap = MODEL.log_evidence(pixels) - bounds.elbo
    assert abs(gap.mean() - GAP) < 4 * standard_error(gap)
    np.testing.assert_array_equal(bounds.elbo, -bounds.rate - bounds.distortion)


# L_K − log p(x) at K = 1, 10, 100, 1000, 5000, means over 500 images.
TABLE = {
    "best diagonal": (DEVIATIONS, 0.0, 1.0, (-0.255, -0.047, -0.012, -0.008, -0.004)),
    "mean off by a deviation": (DEVIATIONS, DEVIATIONS, 1.0, (-2.49, -0.66, -0.14, -0.04, -0.02)),
    "half the deviation": (DEVIATIONS / 2, 0.0, 1.0, (-1.51, -0.86, -0.51, -0.34, -0.24)),
    "the prior": (np.ones(LATENT), 0.0, 0.0, (-505, None, None, None, -3.8)),
}


def check_table(case: str, count: int, most: int) -> None:
    deviations, shift, gain, gaps = TABLE[case]
    autoencoder, pixels = MODEL.autoencoder(deviations, shift, gain), MODEL.pixels(500)[:count]
    for samples, expected in zip((1, 10, 100, 1000, 5000), gaps, strict=True):
        if samples > most or expected is None:
            continue
        bounds = log_likelihood(autoencoder, pixels, samples=samples, seed=3, rows=5000)
        difference = bounds.log_likelihood - MODEL.log_evidence(pixels)
        # The table has an error of its own, of 500 other images, and is rounded.
        error = math.hypot(standard_error(difference), standard_error(difference) * math.sqrt(count / 500))
        assert abs(difference.mean() - expected) < 3.5 * error + 0.5 * 10.0 ** -(3 if abs(expected) < 0.3 else 2)
    if case == "the prior" and most == 5000:
        assert np.median(bounds.effective_samples) < 3
        assert not bounds.is_tight


@pytest.mark.parametrize("case", TABLE)
def test_the_bound_rises_with_k_as_the_table_says(case: str) -> None:
    check_table(case, 200, 100)


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE)
def test_the_bound_of_thousands_of_draws_is_that_of_the_table(case: str) -> None:
    check_table(case, 300, 5000)


def test_with_orthogonal_loadings_the_elbo_is_the_evidence() -> None:
    model, pixels, values = principal(500)
    bounds = log_likelihood(model.autoencoder(np.sqrt(model.variance / values)), pixels, samples=4)
    expected = model.log_evidence(pixels)
    np.testing.assert_allclose(bounds.log_likelihood, expected, atol=2 * FLOAT32)
    np.testing.assert_allclose(bounds.rate.mean(), 0.5 * np.log(values / model.variance).sum(), atol=FLOAT32)
    assert abs(np.mean(bounds.elbo - expected)) < 4 * standard_error(bounds.elbo - expected)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 5), st.sampled_from([1.0, 30.0, 3000.0]))
@settings(max_examples=examples(100), deadline=None)
def test_the_bound_does_not_depend_on_the_chunks(seed: int, samples: int, count: int, scale: float) -> None:
    log_w = scale * np.random.default_rng(seed).normal(size=(samples, count)) - 1e5
    whole = np.logaddexp.reduce(log_w) - math.log(samples)
    for chunk in (1, 7, samples):
        weights = RunningWeights()
        for first in range(0, samples, chunk):
            weights.add(log_w[first : first + chunk])
        np.testing.assert_allclose(weights.log_likelihood, whole, rtol=0, atol=1e-10)
        w = np.exp(log_w - log_w.max(axis=0))
        np.testing.assert_allclose(weights.effective_samples, w.sum(axis=0) ** 2 / (w**2).sum(axis=0), rtol=1e-8)
        np.testing.assert_allclose(weights.largest_share, 1 / w.sum(axis=0), rtol=1e-8)


def test_weights_of_zero_count_and_nan_is_refused() -> None:
    log_w = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    weights = RunningWeights()
    weights.add(log_w)
    np.testing.assert_array_equal(weights.log_likelihood, [-math.log(2), -np.inf])
    np.testing.assert_array_equal(weights.effective_samples, [1, 0])
    np.testing.assert_array_equal(weights.largest_share, [1, 1])
    with pytest.raises(UserError, match="an importance weight is NaN"):
        weights.add(np.full((1, 2), np.nan))


def test_the_bound_depends_neither_on_the_rows_that_are_decoded_at_once_nor_on_the_other_images() -> None:
    pixels = MODEL.pixels(9)
    autoencoder = MODEL.autoencoder(DEVIATIONS)
    whole = log_likelihood(autoencoder, pixels, samples=21, seed=5, rows=1000)
    for rows in (1, 7, 21, 50):
        bounds = log_likelihood(autoencoder, pixels, samples=21, seed=5, rows=rows)
        # The noise is the same; a product of matrices is rounded as its size has it.
        np.testing.assert_allclose(bounds.log_likelihood, whole.log_likelihood, atol=FLOAT32)
        np.testing.assert_allclose(bounds.rate, whole.rate, rtol=1e-5)
    first = log_likelihood(autoencoder, pixels[:4], samples=21, seed=5, rows=50)
    np.testing.assert_allclose(first.log_likelihood, whole.log_likelihood[:4], atol=FLOAT32)
    again = log_likelihood(autoencoder, pixels, samples=21, seed=5, rows=1000)
    np.testing.assert_array_equal(again.log_likelihood, whole.log_likelihood)
    other = log_likelihood(autoencoder, pixels, samples=21, seed=6, rows=1000)
    assert np.abs(other.log_likelihood - whole.log_likelihood).max() > 10 * FLOAT32


def test_noise_is_a_function_of_seed_draw_image_and_sample() -> None:
    def noise(images: list[int], first: int, samples: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
        source = CounterNoise(seed, images, first, samples)
        return (
            source.normal([3]).numpy().reshape(len(images), samples, 3),
            source.uniform([2, 5]).numpy().reshape(len(images), samples, 2, 5),
        )

    for whole, chunk in zip(noise([0, 1, 2, 3], 0, 8), noise([3, 1], 5, 2), strict=True):
        np.testing.assert_array_equal(chunk, whole[[3, 1], 5:7])
    normal, uniform = noise(list(range(200)), 0, 50)
    assert stats.kstest(normal.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    assert 0 <= uniform.min() < uniform.max() < 1
    assert len(np.unique(normal)) > 0.99 * normal.size
    across = normal.reshape(200, -1)
    assert np.abs(np.corrcoef(across[:50])[np.triu_indices(50, 1)]).max() < 0.45
    assert not np.array_equal(noise([0], 0, 8, seed=5)[0], noise([0], 0, 8)[0])


def test_bits_per_dimension_of_a_uniform_density_are_those_of_its_levels() -> None:
    zeros = np.zeros(3)
    np.testing.assert_array_equal(bits_per_dimension(zeros, 64, "unit interval"), 8.0)
    np.testing.assert_allclose(bits_per_dimension(np.full(3, -64 * math.log(256)), 64, "levels"), 8.0)
    np.testing.assert_allclose(bits_per_dimension(np.full(3, -64 * math.log(2)), 64, "binary"), 1.0)


def test_dequantised_images_are_between_the_levels() -> None:
    """A broad Gaussian's density is flat within a level: its error is that of the mid-level plus a known variance."""
    likelihood = Gaussian(scale=1.0, squash_mean=False)
    autoencoder = build((8, 8, 1), 2, model=linear, likelihood=likelihood)
    autoencoder.decoder.get_layer("mean_pixels").set_weights([np.zeros((2, 64)), np.zeros(64)])
    pixels = images(400)
    bounds = log_likelihood(autoencoder, pixels, samples=1, dequantize=True)
    squares = ((pixels.reshape(400, -1) + 0.5) / 256) ** 2 + 1 / (12 * 256**2)
    expected = 0.5 * (squares + math.log(2 * math.pi)).sum(axis=1)
    assert abs(np.mean(bounds.distortion - expected)) < 4 * standard_error(bounds.distortion - expected)
    assert np.abs(bounds.distortion - expected).max() < 0.1


def test_a_fitted_sigma_is_that_of_the_errors() -> None:
    autoencoder = build((8, 8, 1), 2, model=linear)
    autoencoder.decoder.get_layer("mean_pixels").set_weights([np.zeros((2, 64)), np.zeros(64)])  # the sigmoid of 0
    pixels = images(300)
    fitted, sigma = with_fitted_sigma(autoencoder, pixels)
    expected = (((pixels + 0.5) / 256 - 0.5) ** 2 + 1 / (12 * 256**2)).mean()
    assert sigma**2 == pytest.approx(expected, rel=1e-4)
    # At its optimum the Gaussian's entropy is the distortion: ½ D log 2πeσ².
    bounds = log_likelihood(fitted, pixels, samples=1, dequantize=True)
    assert bounds.distortion.mean() == pytest.approx(32 * math.log(2 * math.pi * math.e * sigma**2), abs=0.01)
    assert bits_per_dimension(bounds.log_likelihood, 64, "unit interval").mean() > 8
    cross_entropy = build((8, 8, 1), 2, model=linear, likelihood=CrossEntropy())
    assert 0.2 < with_fitted_sigma(cross_entropy, pixels)[1] < 0.5


def test_what_has_no_density_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^log_likelihood needs the density q\(z\|x\), and Point has none: train with"):
        log_likelihood(build((8, 8, 1), 2, Point(), linear), images(2))
    with pytest.raises(UserError, match=r"p\(x\|z\), and MeanSquaredError is an error .* bits_per_dim\[sigma=fitted\]"):
        log_likelihood(build((8, 8, 1), 2, model=linear), images(2))
    with pytest.raises(UserError, match="of 0 images"):
        log_likelihood(MODEL.autoencoder(), MODEL.pixels(1)[:0])
    broken = MODEL.autoencoder()
    broken.decoder.get_layer("mean_pixels").bias.assign(np.full(PIXELS, np.nan))
    with pytest.raises(UserError, match="an importance weight is NaN"):
        log_likelihood(broken, MODEL.pixels(2), samples=2)


@pytest.mark.parametrize("kind", ["flow", "sphere", "vamp", "classes"])
def test_other_posteriors_and_priors_have_a_bound_that_rises(kind: str) -> None:
    keys = {
        "flow": {"posterior": Planar(2)},
        "sphere": {"posterior": PowerSpherical(), "prior": Sphere()},
        "vamp": {"prior": Vamp(3)},
        "classes": {"prior": ClassConditional(), "classes": 10},
    }[kind]
    tf.keras.utils.set_random_seed(0)
    autoencoder = build((8, 8, 1), 3, model=mlp, likelihood=Bernoulli(), width=8, **keys)
    pixels = np.where(images(12) > 127, 255, 0).astype(np.uint8)
    labels = np.arange(12) % 10
    few = log_likelihood(autoencoder, pixels, labels, samples=2)
    many = log_likelihood(autoencoder, pixels, labels, samples=64)
    assert few.elbo.shape == many.elbo.shape == (12,)
    assert many.log_likelihood.mean() > few.elbo.mean()
    assert np.isfinite(many.log_likelihood).all()
    assert (many.rate > -1).all()


@pytest.mark.slow
def test_a_linear_autoencoder_that_is_trained_ends_at_the_optimum() -> None:
    epochs = 200
    experiment = built(
        "dataset._target_=tests.evaluation.linear_gaussian.load", "dataset.limit=null", "model=linear",
        "likelihood=gaussian", "likelihood.squash_mean=false", "latent=4", f"epochs={epochs}", "batch_size=100",
        "optimizer.learning_rate=1e-2", "schedule=cosine", "model.output_bias=mean", network=(),
    )  # fmt: skip
    for _ in range(epochs):
        experiment.trainer._train_epoch(lambda progress: None)
        experiment.trainer.next_epoch()
    pixels = np.asarray(experiment.dataset.train.images)
    bounds = log_likelihood(experiment.autoencoder, pixels, samples=20)
    optimum = greatest_evidence(pixels)
    error = standard_error(bounds.elbo - bounds.log_likelihood)
    assert optimum - 0.05 < bounds.log_likelihood.mean() < optimum + 0.01
    assert optimum - 0.1 < bounds.elbo.mean() < optimum + 3 * error
