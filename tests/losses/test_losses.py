import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import build
from vae_runner.distributions.squared_error import SquaredError
from vae_runner.errors import UserError
from vae_runner.likelihoods.base import Likelihood
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.losses.base import Batch, Loss, check_densities
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.importance_weighted import ImportanceWeighted
from vae_runner.losses.reconstruction import Reconstruction
from vae_runner.losses.renyi import Renyi
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import Posterior
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.posteriors.point import Point
from vae_runner.training.noise import GivenNoise

NOISE = tf.constant(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    images = rng.random((5, 8, 9, 3), np.float32)
    return Batch(tf.constant(images), None, GivenNoise([NOISE]), tf.constant(0.5))


def by_hand(autoencoder: Autoencoder, batch: Batch) -> tuple[float, float]:
    """1000 × mean squared error and KL, in NumPy, image by image."""
    outputs = autoencoder.encoder(batch.images)
    mean, log_var = outputs["mean"].numpy().astype(float), outputs["log_var"].numpy().astype(float)
    z = mean + np.sqrt(np.exp(log_var)) * NOISE.numpy()
    decoded = autoencoder.decoder(z.astype(np.float32))["mean"].numpy().astype(float)
    errors, divergences = [], []
    for image, other, m, v in zip(batch.images.numpy(), decoded, mean, log_var, strict=True):
        errors.append(np.mean([(a - b) ** 2 for a, b in zip(image.ravel(), other.ravel(), strict=True)]))
        divergences.append(sum(-0.5 * (1 + lv - mu**2 - np.exp(lv)) for mu, lv in zip(m, v, strict=True)))
    return 1000 * float(np.mean(errors)), float(np.mean(divergences))


def test_vae_is_1000_times_mse_plus_kl(batch: Batch) -> None:
    autoencoder = build((8, 9, 3), 4, model=mlp)
    loss, terms = Elbo()(autoencoder, batch, training=True)
    reconstruction, kl = by_hand(autoencoder, batch)

    np.testing.assert_allclose(terms["reconstruction"], reconstruction, rtol=1e-4)
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(loss, reconstruction + kl, rtol=1e-4)


def test_weights_weigh_the_loss_and_the_kl_is_told_without_its_own(batch: Batch) -> None:
    autoencoder = build((8, 9, 3), 4, model=mlp)
    loss, terms = Elbo(reconstruction_weight=10, kl_weight=4)(autoencoder, batch, training=True)
    reconstruction, kl = by_hand(autoencoder, batch)

    np.testing.assert_allclose(terms["reconstruction"], reconstruction / 100, rtol=1e-4)
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(loss, reconstruction / 100 + 4 * kl, rtol=1e-4)


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0), (1, 1), (3, 3), (4, 4), (50, 4), (np.inf, 4)])
def test_kl_warm_up_grows_the_weight_linearly_to_its_value(epoch: float, weight: float) -> None:
    assert float(Elbo(kl_weight=4, kl_warmup_epochs=4).kl_weight_at(tf.constant(epoch, tf.float32))) == weight


@pytest.mark.parametrize("posterior", [Point, Gaussian])
def test_ae_is_the_reconstruction_term_of_the_mean_without_noise(batch: Batch, posterior: type[Posterior]) -> None:
    autoencoder = build((8, 9, 3), 4, posterior(), mlp)
    loss, terms = Reconstruction(reconstruction_weight=10)(autoencoder, batch, training=True)
    mean = autoencoder.encoder(batch.images)["mean"]
    error = (autoencoder.decoder(mean)["mean"] - batch.images).numpy().astype(float)

    np.testing.assert_allclose(loss, 10 * np.mean(error**2), rtol=1e-4)
    assert terms == {"reconstruction": loss}
    louder = batch._replace(noise=GivenNoise([100 * NOISE]))
    louder, _ = Reconstruction(reconstruction_weight=10)(autoencoder, louder, training=True)
    assert float(louder) == float(loss)


def test_the_error_is_of_each_image_over_its_pixels_and_channels(batch: Batch) -> None:
    others = tf.reverse(batch.images, axis=[0])
    expected = [np.mean((a - b) ** 2) for a, b in zip(batch.images.numpy(), others.numpy(), strict=True)]
    np.testing.assert_allclose(SquaredError(others).error(batch.images), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [Reconstruction(), Elbo()])
def test_both_networks_are_in_training_or_in_inference_as_the_loss_is(batch: Batch, loss: Loss) -> None:
    autoencoder = build((8, 9, 3), 4, model=mlp, normalization="batch")
    layers = [*autoencoder.encoder.layers, *autoencoder.decoder.layers]
    averages = [layer.moving_mean for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [average.numpy() for average in averages]
    for training in (False, True):
        loss(autoencoder, batch._replace(noise=GivenNoise([NOISE])), training)
        moved = [not np.array_equal(a, b) for a, b in zip(before, averages, strict=True)]
        assert moved == [training] * 4


class Bernoulli(Likelihood):
    measure = "binary"


def test_a_density_has_the_weight_1_and_no_other() -> None:
    for weight in (None, 1, 1.0):
        check_densities(Elbo(reconstruction_weight=weight), Gaussian(), Bernoulli())
    for loss in (Elbo(reconstruction_weight=10), Reconstruction(reconstruction_weight=10)):
        check_densities(loss, Gaussian(), MeanSquaredError())
        with pytest.raises(UserError, match=r"^loss\.reconstruction_weight=10: this likelihood is a density"):
            check_densities(loss, Gaussian(), Bernoulli())


def test_a_bound_on_the_likelihood_needs_a_likelihood_that_is_a_density() -> None:
    for loss in (ImportanceWeighted(), Renyi()):
        check_densities(loss, Gaussian(), Bernoulli())
        with pytest.raises(UserError, match=r"takes −log p\(x\|z\), and this likelihood is no density: choose"):
            check_densities(loss, Gaussian(), MeanSquaredError())


@pytest.mark.parametrize(
    ("loss", "normalization", "draws"),
    [
        (ImportanceWeighted(samples=5), "batch", 5),
        (ImportanceWeighted(samples=2, groups=3), "batch", 6),
        (Renyi(samples=4), "batch", 4),
        (Renyi(samples=1), "batch", 0),
        (ImportanceWeighted(samples=1), "batch", 0),
        (ImportanceWeighted(samples=5), "layer", 0),
        (Elbo(), "batch", 0),
    ],
    ids=str,
)
def test_a_decoder_that_would_mix_the_draws_of_an_image_is_warned_of(
    loss: Loss, normalization: str, draws: int, caplog: pytest.LogCaptureFixture
) -> None:
    loss.check(build((8, 8, 1), 2, model=mlp, width=4, normalization=normalization))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == bool(draws)
    for line in said:
        assert f"mixes the {draws} draws" in line
        assert "model.normalization=layer" in line
