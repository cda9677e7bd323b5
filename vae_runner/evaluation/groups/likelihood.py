"""The group `likelihood`: log p(x), its bounds and bits per dimension, of test images."""

import math

import numpy as np

from vae_runner.evaluation.ais import annealed_importance_sampling
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.likelihood import (
    FITTED_IMAGES,
    Bounds,
    bits_per_dimension,
    effective_beta,
    log_likelihood,
    standard_error,
    with_fitted_sigma,
)
from vae_runner.evaluation.subject import Subject
from vae_runner.likelihoods.mse import MeanSquaredError


def likelihood(subject: Subject, report: Report) -> Found:
    """Return log p(x) by importance sampling, the ELBO, rate and distortion of test images, and bits per dimension.

    Where the likelihood is no density, they are of a Gaussian around the same means, with the σ that fits training
    images, which their names say.
    """
    config, autoencoder, name = subject.config.likelihood, subject.autoencoder, ""
    notes = []
    if autoencoder.likelihood.measure is None:
        train = subject.images("train", FITTED_IMAGES)
        autoencoder, sigma = with_fitted_sigma(
            autoencoder, train.images, subject.labels_of(train), seed=subject.config.seed
        )
        name = "[sigma=fitted]"
        notes.append(
            f"{type(subject.autoencoder.likelihood).__name__} is no density: log_likelihood and bits_per_dim are of "
            f"Gaussians around the decoded means, of dequantised images, with σ = {sigma:.3g}, which fits "
            f"{len(train):,} training images"
        )
        weight, kl_weight = subject.training.reconstruction_weight, subject.training.kl_weight
        if isinstance(subject.autoencoder.likelihood, MeanSquaredError) and weight and kl_weight:
            beta = kl_weight * effective_beta(math.prod(autoencoder.image_shape), sigma, weight)
            notes.append(f"Of these Gaussians, the loss with its weight of {weight:g} has β = {beta:.2g}")
    measure = autoencoder.likelihood.measure
    test = subject.images("test", config.images)
    continuous = measure == "unit interval"

    def bounds(dequantize: bool, first: float, share: float) -> Bounds:
        return log_likelihood(
            autoencoder, test.images, subject.labels_of(test), samples=config.samples, seed=subject.config.seed,
            dequantize=dequantize, report=lambda done: report(first + share * done),
        )  # fmt: skip

    plain = bounds(bool(name), 0.0, 0.5 if continuous and not name else 1.0)
    quantized = bounds(True, 0.5, 0.5) if continuous and not name else plain
    of_images = {
        "log_likelihood": plain.log_likelihood, "elbo": plain.elbo, "rate": plain.rate, "distortion": plain.distortion
    }  # fmt: skip
    if measure in ("levels", "unit interval", "binary"):
        pixels = math.prod(autoencoder.image_shape)
        of_images["bits_per_dim"] = bits_per_dimension(quantized.log_likelihood, pixels, measure)
    values = {f"{key}{name}": float(np.mean(of_image)) for key, of_image in of_images.items()}
    errors = {f"{key}{name}": standard_error(of_image) for key, of_image in of_images.items()}
    values[f"effective_samples{name}"] = float(np.median(plain.effective_samples))
    if not plain.is_tight and config.samples > 1:
        notes.append(
            f"log_likelihood is not tight: one of {config.samples} importance samples has most of the weight for most "
            "images; give a higher evaluation.likelihood.samples"
        )
    how = {"n": len(test), "split": "test", "samples": config.samples, "measure": measure}
    return Found(values, errors, notes, how)


def ais(subject: Subject, report: Report) -> Found:
    """Return log p(x) of a few test images by annealed importance sampling, which is closer to it, and slow."""
    config = subject.config.likelihood
    test = subject.images("test", config.ais_images)
    labels = subject.labels_of(test)
    by_importance = log_likelihood(
        subject.autoencoder, test.images, labels, samples=config.samples, seed=subject.config.seed
    ).log_likelihood
    found = annealed_importance_sampling(
        subject.autoencoder, test.images, labels, steps=config.ais_steps, seed=subject.config.seed,
        report=report,
    )  # fmt: skip
    above = found.log_likelihood - by_importance
    values = {
        "ais_log_likelihood": float(found.log_likelihood.mean()),
        "ais_above_importance_sampling": float(above.mean()),  # of the same images
        "ais_acceptance": float(found.acceptance),
    }
    errors = {
        "ais_log_likelihood": standard_error(found.log_likelihood),
        "ais_above_importance_sampling": standard_error(above),
    }
    how = {"n": len(test), "split": "test", "steps": found.steps, "chains": found.chains}
    return Found(values, errors, how=how)


METRICS = (
    Metric("importance_sampling", "likelihood", likelihood, ("likelihood",)),
    Metric(
        "annealed_importance_sampling",
        "likelihood",
        ais,
        ("likelihood",),
        is_asked_for=lambda config: config.likelihood.ais_images > 0,
    ),
)
