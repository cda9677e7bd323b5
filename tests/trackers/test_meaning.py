"""What the summary says of a loss, in numbers computed by hand."""

import math

import pytest

from tests.networks import build
from vae_runner.likelihoods.base import Likelihood
from vae_runner.likelihoods.cross_entropy import CrossEntropy
from vae_runner.likelihoods.discretized_logistic import DiscretizedLogistic
from vae_runner.likelihoods.gaussian import Gaussian
from vae_runner.likelihoods.ms_ssim import MsSsim
from vae_runner.losses.base import Loss
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.reconstruction import Reconstruction
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.trackers import meaning as meanings
from vae_runner.trackers.meaning import effective_kl_weight_after


def autoencoder(likelihood: Likelihood | None = None) -> Autoencoder:
    return build((28, 28, 1), 2, model=mlp, width=4, likelihood=likelihood)


def meaning(autoencoder: Autoencoder, loss: Loss) -> str:
    return "\n".join(meanings.meaning(autoencoder, loss))


def test_the_tutorials_weight_is_a_sigma_of_0_63_and_worse_than_a_uniform_distribution() -> None:
    """σ² = 784 / 2000 = 0.392; 8 + ½ log2 (2π · 0.392) = 8.65 bits; β = 0.392 / 0.03 = 13."""
    said = meaning(autoencoder(), Elbo())
    for part in ("1000 × mean squared error", "σ = 0.63 (160 of 255 levels)", "at least 8.65 bits", "has β = 13"):
        assert part in said
    assert "β = 52" in meaning(autoencoder(), Elbo(kl_weight=4))
    assert "σ = 0.063 (16 of 255 levels): at least 5.33 bits" in meaning(
        autoencoder(), Elbo(reconstruction_weight=100_000)
    )
    assert "β" not in meaning(autoencoder(), Reconstruction())


def test_after_training_the_kls_weight_is_that_of_the_errors_there_are() -> None:
    fitted = effective_kl_weight_after(autoencoder(), Elbo(kl_weight=2), {"test/reconstruction": 40.0})
    assert fitted is not None
    assert fitted[0] == pytest.approx(0.2)  # √(40 / 1000)
    assert fitted[1] == pytest.approx(2 * 0.392 / 0.04)
    assert effective_kl_weight_after(autoencoder(), Reconstruction(), {"test/reconstruction": 40.0}) is None
    assert effective_kl_weight_after(autoencoder(Gaussian(None, True)), Elbo(), {"test/reconstruction": 40.0}) is None
    for loss in (Elbo(free_bits=0.1), Elbo(kl_capacity=5.0)):  # which weigh something else than the KL term
        assert effective_kl_weight_after(autoencoder(), loss, {"test/reconstruction": 40.0}) is None


def test_a_fitted_sigma_makes_the_loss_the_one_it_says_up_to_a_factor_and_a_constant() -> None:
    """weight · MSE + KL = (weight · 2σ² / D) · (Σ (x − x̂)² / 2σ² + β · KL) for every MSE and KL."""
    sigma, beta = effective_kl_weight_after(autoencoder(), Elbo(), {"test/reconstruction": 31.0}) or (0.0, 0.0)
    factor = 1000 * 2 * sigma**2 / 784
    for error, kl in ((0.031, 5.0), (0.1, 2.0)):
        assert 1000 * error + kl == pytest.approx(factor * (784 * error / (2 * sigma**2) + beta * kl))
    assert math.isclose(sigma, math.sqrt(0.031))


def test_of_a_loss_without_a_reconstruction_term_it_says_nothing() -> None:
    class Mine(Loss):
        terms = ("absolute",)
        kl_weight = 1.0

    assert meaning(autoencoder(), Mine()) == ""
    assert effective_kl_weight_after(autoencoder(), Mine(), {"test/absolute": 1.0}) is None


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        (Gaussian(None, True), "−log p(x|z) in nats, of pixels as real numbers"),
        (DiscretizedLogistic(True), "−log p(x|z) in nats, of images of 256 levels"),
        (CrossEntropy(), "1 × an error that is no density: neither nats nor bits"),
        (MsSsim(), "100 × an error that is no density"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_others_it_says_whether_they_are_densities_and_of_what(likelihood: Likelihood, words: str) -> None:
    said = meaning(autoencoder(likelihood), Elbo())
    assert words in said
    assert "σ" not in said
