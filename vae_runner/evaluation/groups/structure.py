"""The group `structure`: how the KL term is spread over dimensions and parts, and a diagnosis in words."""

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.divergence import kl_by_dimension
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.errors import UserError
from vae_runner.evaluation import reconstruction, structure
from vae_runner.evaluation.diagnosis import Evidence, diagnose
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.likelihood import FITTED_IMAGES
from vae_runner.evaluation.subject import Encoded, Subject


def kl(subject: Subject, report: Report) -> Found:
    """Return the KL divergence of each dimension, and how many dimensions are active."""
    test = subject.encoded("test", subject.config.structure.images)
    means = np.asarray(test.mean, np.float64)
    variances = structure.variance_of_means(means)
    values = {"active_units": float(structure.active_units(means))}
    how = {
        "n": len(test.split), "split": "test", "code": "mean", "dimensions": variances.size,
        "active": f"variance > {structure.ACTIVE_VARIANCE}",
    }  # fmt: skip
    by_dimension = _kl_by_dimension(subject, test)
    if by_dimension is None:
        note = "The KL divergence of posterior and prior has no closed form for each dimension: there is none here"
        return Found(values, notes=[note], how=how)
    values = {"kl": float(by_dimension.sum()), **values}
    arrays = {"kl_by_dimension": {"kl": by_dimension, "variance_of_means": variances}}
    return Found(values, how=how, arrays=arrays, pictured=arrays)


def surgery(subject: Subject, report: Report) -> Found:
    """Return mutual information, total correlation and dimension-wise KL, which the KL term is the sum of."""
    config = subject.config.structure
    test = subject.encoded("test", config.images)
    found = _surgery(subject, test, report)
    values = {
        "mutual_information": found.mutual_information, "log_n": found.log_n,
        "total_correlation": found.total_correlation, "dimension_wise_kl": found.dimension_wise_kl,
    }  # fmt: skip
    notes = []
    if found.is_saturated:
        notes.append(
            f"The mutual information is near log n = {found.log_n:.2f}, its bound: read it as a lower bound, and the "
            "total correlation as an upper one, or give more evaluation.structure.images"
        )
    how = {"n": len(test.split), "draws": found.samples, "split": "test", "code": "sampled"}
    return Found(values, {"mutual_information": found.standard_error}, notes, how)


def gaussian_total_correlation(subject: Subject, report: Report) -> Found:
    """Return the total correlation of a Gaussian with the codes' covariance, of means and of draws."""
    test = subject.encoded("test", subject.config.structure.images)
    means = np.asarray(test.mean, np.float64)
    moving = structure.variance_of_means(means) > 0
    values = {"gaussian_total_correlation[mean]": structure.gaussian_total_correlation(means[:, moving])}
    draws = subject.posterior(test).sample(subject.noise(len(test.split)))
    values["gaussian_total_correlation[sampled]"] = structure.gaussian_total_correlation(np.asarray(draws))
    return Found(values, how={"n": len(test.split), "split": "test"})


def diagnosis(subject: Subject, report: Report) -> Found:
    """Return in words what the numbers say of the model, and which keys to change."""
    test = subject.encoded("test", subject.config.structure.images)
    by_dimension = _kl_by_dimension(subject, test)
    if by_dimension is None:
        raise UserError(
            "a diagnosis is made from the KL divergence of each dimension, which has no closed form for this pair of "
            "posterior and prior"
        )
    training = subject.training
    log_var = test.parameters.get("log_var")
    try:
        cut = _surgery(subject, test, report)
    except UserError:
        cut = None
    evidence = Evidence(
        by_dimension,
        structure.variance_of_means(np.asarray(test.mean, np.float64)),
        deviations=None if log_var is None else np.exp(np.asarray(log_var, np.float64) / 2).mean(axis=0),
        surgery=cut,
        log_likelihood=subject.found.get("log_likelihood"),
        elbo=subject.found.get("elbo"),
        losses=tuple(
            (row.get("train/loss", math.nan), row.get("test/loss", math.nan)) for row in training.history[-1:]
        ),
        kl_of_epochs=[row["train/kl"] for row in training.history if "train/kl" in row],
        loss=training.loss,
        reconstruction_weight=training.reconstruction_weight,
        fitting_weight=_fitting_weight(subject, test),
        epochs=len(training.history) or training.epochs,
        is_spatial=subject.autoencoder.is_spatial,
    )
    notes = [f"{of.name}: {of.explanation}. What to do: {of.advice}" for of in diagnose(evidence)]
    return Found({}, notes=notes, how={"n": len(test.split), "split": "test"})


def _fitting_weight(subject: Subject, encoded: Encoded) -> float | None:
    """Return the weight of a mean squared error with which the loss has β = 1; None where that is no key of it."""
    if subject.training.reconstruction_weight is None:
        return None
    errors = [reconstruction.mse(*pair) for pair in subject.reconstructions(encoded.first(FITTED_IMAGES))]
    error = float(np.concatenate(errors).mean())
    return math.prod(subject.autoencoder.image_shape) / (2 * max(error, 1e-6))


def _kl_by_dimension(subject: Subject, encoded: Encoded) -> NDArray[np.float64] | None:
    """Return the mean KL divergence of each dimension, `[latent]`; None where it has no closed form."""
    labels = subject.labels_of(encoded.split)
    prior = subject.autoencoder.latent_prior(None if labels is None else tf.constant(labels))
    by_dimension = kl_by_dimension(subject.posterior(encoded), prior)
    return None if by_dimension is None else np.asarray(by_dimension, np.float64).mean(axis=0)


def _surgery(subject: Subject, encoded: Encoded, report: Report) -> structure.Surgery:
    posterior, prior = subject.posterior(encoded), subject.autoencoder.latent_prior(subject.labels_of(encoded.split))
    if not isinstance(posterior, DiagonalGaussian) or not isinstance(prior, (StandardNormal, DiagonalGaussian)):
        raise UserError(
            "the KL term is cut into its parts for posterior=gaussian with prior=normal or learned_normal: that of "
            f"{type(subject.autoencoder.posterior).__name__} and {type(subject.autoencoder.prior).__name__} is not"
        )
    if isinstance(prior, StandardNormal):
        mean, log_var = np.zeros(1), np.zeros(1)
    else:
        mean, log_var = (np.asarray(of, np.float64)[0] for of in (prior.mean, prior.log_var))
        if subject.autoencoder.classes:
            raise UserError("the KL term is cut into its parts where the prior is the same for all images")

    def log_prior(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return -0.5 * (math.log(2 * math.pi) + log_var + np.square(z - mean) / np.exp(log_var))

    return structure.elbo_surgery(
        np.asarray(posterior.mean), np.asarray(posterior.log_var), subject.config.structure.samples,
        subject.config.seed, log_prior=log_prior, report=report,
    )  # fmt: skip


METRICS = (
    Metric("kl", "structure", kl, ("structure",)),
    Metric("surgery", "structure", surgery, ("structure",)),
    Metric("gaussian_total_correlation", "structure", gaussian_total_correlation, ("structure",)),
    Metric("diagnosis", "structure", diagnosis, ("structure",), uses=("log_likelihood", "elbo")),
)
