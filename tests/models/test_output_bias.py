"""Decoders that begin at the mean training image, whatever the likelihood."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from tests.networks import build
from tests.training.test_experiment import configured
from vae_runner.datasets import dataset
from vae_runner.datasets.dataset import mean_image
from vae_runner.errors import UserError
from vae_runner.experiment import build_experiment
from vae_runner.likelihoods.base import Likelihood
from vae_runner.likelihoods.bernoulli import Bernoulli
from vae_runner.likelihoods.categorical import Categorical
from vae_runner.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vae_runner.likelihoods.cross_entropy import CrossEntropy
from vae_runner.likelihoods.discretized_gaussian import DiscretizedGaussian
from vae_runner.likelihoods.discretized_logistic import DiscretizedLogistic
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.likelihoods.gaussian_per_pixel import GaussianPerPixel
from vae_runner.likelihoods.laplace import Laplace
from vae_runner.likelihoods.logistic_mixture import LogisticMixture
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.likelihoods.student_t import StudentT
from vae_runner.models import burgess, conv, gated_mlp, linear, mlp
from vae_runner.models.output_bias import begin_at_mean
from vae_runner.runtime.hardware import setup
from vae_runner.training.stopwatch import Stopwatch

SHAPE = (9, 8, 3)
MEANS: list[Likelihood] = [
    MeanSquaredError(), CrossEntropy(), Bernoulli(), ContinuousBernoulli(15.0), Gaussian(None, True),
    Gaussian(0.1, False), GaussianPerPixel(True), Laplace(None, True), StudentT(False),
]  # fmt: skip
LOCATIONS: list[Likelihood] = [DiscretizedGaussian(True), DiscretizedLogistic(False), LogisticMixture(4)]


def mean_of(rows: tuple[float, float]) -> np.ndarray:
    """A mean image between these values."""
    return np.linspace(*rows, np.prod(SHAPE)).reshape(SHAPE)


def begun(likelihood: Likelihood, mean: np.ndarray, model: Any, **keys: Any) -> Any:
    """What the decoder gives for a latent that makes features of zeros, as numbers of each image's shape."""
    autoencoder = build(SHAPE, 2, model=model, likelihood=likelihood, **keys)
    begin_at_mean(autoencoder, mean)
    return autoencoder.decode(np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("likelihood", MEANS, ids=lambda likelihood: type(likelihood).__name__)
def test_dense_decoders_begin_at_the_mean_of_each_pixel_and_convolutions_at_that_of_each_channel(
    likelihood: Likelihood,
) -> None:
    mean = mean_of((0.1, 0.85))
    np.testing.assert_allclose(begun(likelihood, mean, mlp, width=4).mean[0], mean, rtol=1e-4)
    by_channel = np.broadcast_to(mean.mean(axis=(0, 1)), SHAPE)
    np.testing.assert_allclose(begun(likelihood, mean, conv, filters=4).mean[0], by_channel, rtol=1e-4)


@pytest.mark.parametrize("likelihood", LOCATIONS, ids=lambda likelihood: type(likelihood).__name__)
def test_where_a_density_is_cut_into_levels_its_location_begins_there(likelihood: Likelihood) -> None:
    mean = mean_of((0.1, 0.85))
    distribution = begun(likelihood, mean, mlp, width=4)
    location = getattr(distribution, "locations", None)
    if location is None:
        np.testing.assert_allclose(distribution.location[0], mean, rtol=1e-4)
    else:
        np.testing.assert_allclose(location[0], np.repeat(mean[..., np.newaxis], 4, axis=-1), rtol=1e-4)


@pytest.mark.parametrize("model", [linear, gated_mlp, burgess])
def test_every_network_begins_there(model: Any) -> None:
    mean = mean_of((0.1, 0.85))
    expected = np.broadcast_to(mean.mean(axis=(0, 1)), SHAPE) if model is burgess else mean
    np.testing.assert_allclose(begun(Bernoulli(), mean, model).mean[0], expected, rtol=1e-4)


@pytest.mark.parametrize("likelihood", [*MEANS, *LOCATIONS], ids=lambda likelihood: type(likelihood).__name__)
def test_black_and_white_pixels_have_finite_biases_near_them(likelihood: Likelihood) -> None:
    for value in (0.0, 1.0):
        (bias,) = likelihood.output_bias(np.full(3, value)).values()
        assert np.isfinite(bias).all()
        other = next(iter(likelihood.output_bias(np.full(3, abs(value - 0.1))).values()))
        assert (bias < other).all() if value == 0 else (bias > other).all()


def test_a_likelihood_without_a_location_or_logit_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.output_bias=mean needs a likelihood .* Categorical is none: choose"):
        begun(Categorical(), mean_of((0.1, 0.85)), mlp, width=4)


class WithoutBias:
    @staticmethod
    def build(*arguments: Any) -> tuple[keras.Model, keras.Model]:
        encoder, _ = mlp.build(*arguments)
        z = keras.Input((2,))
        x = keras.layers.Dense(math.prod(SHAPE), use_bias=False)(z)
        return encoder, keras.Model(z, {"logits": keras.layers.Reshape(SHAPE)(x)})


def test_a_network_whose_last_layer_has_no_bias_is_refused() -> None:
    with pytest.raises(UserError, match="the layer that makes logits has no bias"):
        begun(Bernoulli(), mean_of((0.1, 0.85)), WithoutBias)


def test_a_run_begins_at_the_mean_of_its_training_images() -> None:
    images = {}
    for bias in ("mean", "zero"):
        config = configured(f"model.output_bias={bias}")
        experiment = build_experiment(config, setup(config.hardware, config.seed), Stopwatch())
        images[bias] = experiment.autoencoder.decode(np.zeros((1, 3), np.float32)).mean[0]
    mean = np.mean(experiment.dataset.train.images, axis=0) / 255
    np.testing.assert_allclose(images["mean"], np.clip(mean, 0.001, 0.999), rtol=1e-4)
    np.testing.assert_array_equal(images["zero"], np.full((8, 8, 1), 0.5))


def test_the_mean_of_images_is_exact_and_reads_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3)).astype(np.uint8)

    class OnDisk:
        shape, dtype, read = images.shape, images.dtype, 0

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, key: slice) -> np.ndarray:
            self.read = max(self.read, len(images[key]))
            return images[key]

    monkeypatch.setattr(dataset, "CHUNK_BYTES", 7 * 60)
    on_disk = OnDisk()
    np.testing.assert_array_equal(mean_image(on_disk), images.sum(axis=0, dtype=np.uint64) / (255 * 50))
    assert on_disk.read == 7
