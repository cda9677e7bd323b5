"""What the numbers of a loss mean, in words."""

import math
from collections.abc import Mapping

from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.losses.base import Loss
from vae_runner.losses.elbo import Elbo
from vae_runner.models.autoencoder import Autoencoder

OF_MEASURES = {
    "binary": "of black and white images: comparable among likelihoods of these",
    "levels": "of images of 256 levels: comparable among likelihoods of these, also as bits per dimension",
    "unit interval": "of pixels as real numbers in [0, 1]: comparable among likelihoods of these, not as bits",
}
ASSUMED_ERROR = 0.03  # mean squared, of pixels in [0, 1]: about what small networks have on Fashion-MNIST


def implied_variance(autoencoder: Autoencoder, loss: Loss) -> float | None:
    """Return σ² of the Gaussian whose −log p(x|z) is the weighted mean squared error plus a constant.

    weight · Σ (x − x̂)² / D = Σ (x − x̂)² / (2 σ²) for an image of D pixels and channels: σ² = D / (2 weight). None where
    the likelihood is another, the loss has no such term, or the weight is 0.
    """
    weight = reconstruction_weight(autoencoder, loss) if "reconstruction" in loss.terms else 0.0
    if not isinstance(autoencoder.likelihood, MeanSquaredError) or not weight:
        return None
    return math.prod(autoencoder.image_shape) / (2 * weight)


def reconstruction_weight(autoencoder: Autoencoder, loss: Loss) -> float:
    """Return the weight of the reconstruction error: the loss's key, or the likelihood's own."""
    return autoencoder.likelihood.weight if loss.reconstruction_weight is None else loss.reconstruction_weight


def effective_kl_weight(variance: float, loss: Loss, mean_squared_error: float) -> float | None:
    """Return β, the KL term's weight when the loss is divided so that its Gaussian has the σ² that fits the errors.

    That σ² is the mean squared error itself. None where the loss gives its KL term no weight of its own, or weighs
    another number made of it.
    """
    if isinstance(loss, Elbo) and (loss.free_bits or loss.kl_capacity is not None):
        return None
    kl_weight = getattr(loss, "kl_weight", None)
    return kl_weight * variance / mean_squared_error if kl_weight and mean_squared_error else None


def meaning(autoencoder: Autoencoder, loss: Loss) -> list[str]:
    """Return lines that say what the reconstruction term is and what it compares with; none without such a term."""
    if "reconstruction" not in loss.terms:
        return []
    measure, variance = autoencoder.likelihood.measure, implied_variance(autoencoder, loss)
    if measure is not None:
        return [f"Reconstruction: −log p(x|z) in nats, {OF_MEASURES.get(measure, 'a density')}"]
    weight = reconstruction_weight(autoencoder, loss)
    if variance is None:
        return [f"Reconstruction: {weight:g} × an error that is no density: neither nats nor bits"]
    sigma, bits = math.sqrt(variance), 8 + 0.5 * math.log2(2 * math.pi * variance)
    lines = [
        f"Reconstruction: {weight:g} × mean squared error, as of a Gaussian with σ = {sigma:.2g} ({255 * sigma:.0f} of "
        f"255 levels): at least {bits:.2f} bits a dimension, where a uniform distribution has 8"
    ]
    if beta := effective_kl_weight(variance, loss, ASSUMED_ERROR):
        lines.append(f"KL: with the σ that fits a mean squared error of {ASSUMED_ERROR}, this loss has β = {beta:.2g}")
    return lines


def effective_kl_weight_after(
    autoencoder: Autoencoder, loss: Loss, metrics: Mapping[str, float]
) -> tuple[float, float] | None:
    """Return the σ that fits the test images' errors of an epoch with these metrics, and the KL term's weight with it.

    None where the likelihood is not a weighted mean squared error, or the KL term has no weight.
    """
    variance = implied_variance(autoencoder, loss)
    if variance is None:
        return None
    error = metrics["test/reconstruction"] / reconstruction_weight(autoencoder, loss)
    beta = effective_kl_weight(variance, loss, error)
    return None if beta is None else (math.sqrt(error), beta)
