"""The group `structure`: how the KL term is spread over dimensions and parts, and a diagnosis in words."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.codes import Quantized, perplexity
from vae_runner.distributions.divergence import has_closed_form, kl_by_dimension, kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.errors import UserError
from vae_runner.evaluation import reconstruction, structure
from vae_runner.evaluation.codes import code_frequencies
from vae_runner.evaluation.diagnosis import Evidence, diagnose
from vae_runner.evaluation.embeddings import batch_size_for
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.likelihood import FITTED_IMAGES, CounterNoise, standard_error
from vae_runner.evaluation.subject import Encoded, Subject
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.posteriors.base import CodePosterior
from vae_runner.priors.sphere import Sphere

FEWEST_IMAGES = 30  # of a diagnosis

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KlTerm:
    """The KL divergence of posterior and prior of some images, in nats."""

    of_images: Floats  # [n]
    by_dimension: Floats | None  # means over images, [latent]; None where dimensions depend on each other
    is_estimated: bool  # whether it is log q(z|x) − log p(z) of a draw for each image

    @property
    def mean(self) -> float:
        """Return the mean over images."""
        return float(self.of_images.mean() if self.by_dimension is None else self.by_dimension.sum())


def kl(subject: Subject, report: Report) -> Found:
    """Return the KL divergence, of each dimension where there is one, how many are active, and the use of codes."""
    test = subject.encoded("test", subject.config.structure.images)
    how: dict[str, object] = {"n": len(test.split), "split": "test"}
    values, errors, notes, arrays = {}, {}, [], {}
    term, scale = _kl_term(subject, test, report), _lack_of_scale(subject)
    if term is None:
        notes.append("There is no KL divergence: a posterior that is a point has no density")
    else:
        values["kl"], how["kl"] = term.mean, "estimated" if term.is_estimated else "closed form"
        if term.is_estimated:
            errors["kl"] = standard_error(term.of_images)
            notes.append(
                "The KL divergence is estimated from a draw for each image: that of posterior and prior has no closed "
                "form"
            )
    if scale:
        notes.append(f"There are no active_units: {scale}")
    else:
        variances = structure.variance_of_means(test.mean)
        values["active_units"] = float(structure.active_units(test.mean))
        how.update(code="mean", dimensions=variances.size, active=f"variance > {structure.ACTIVE_VARIANCE}")
        if term is not None and term.by_dimension is not None:
            arrays = {"kl_by_dimension": {"kl": term.by_dimension, "variance_of_means": variances}}
    frequencies = code_frequencies(subject.autoencoder, test.parameters)
    if frequencies is not None:
        values |= {"perplexity": perplexity(frequencies), "usage": float(np.mean(frequencies > 0))}
    return Found(values, errors, notes, how, arrays, pictured=arrays)


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
    means, how = np.asarray(test.mean, np.float64), {"n": len(test.split), "split": "test"}
    moving = means[:, ~structure.is_constant(means)]
    values, notes = {}, []
    if moving.shape[1] < means.shape[1]:
        notes.append(f"gaussian_total_correlation[mean] is of the {moving.shape[1]} dimensions that vary")
    if moving.shape[1]:
        values["gaussian_total_correlation[mean]"] = structure.gaussian_total_correlation(moving)
    if subject.autoencoder.posterior.has_density:
        posterior = subject.posterior(test)
        if isinstance(posterior, DiagonalGaussian):
            variances = np.exp(np.asarray(posterior.log_var, np.float64))
            sampled = structure.gaussian_total_correlation(means, variances)
        else:
            sampled = structure.gaussian_total_correlation(np.asarray(posterior.sample(subject.noise(len(means)))))
        values["gaussian_total_correlation[sampled]"] = sampled
    return Found(values, notes=notes, how=how)


def diagnosis(subject: Subject, report: Report) -> Found:
    """Return in words what the numbers say of the model, and which keys to change."""
    test = subject.encoded("test", subject.config.structure.images)
    if len(test.split) < FEWEST_IMAGES:
        raise UserError(
            f"of {len(test.split)} test images there is no diagnosis: it needs {FEWEST_IMAGES} at least; "
            "dataset.test_fraction says how many a folder has"
        )
    term, training, posterior = _kl_term(subject, test, report), subject.training, subject.posterior(test)
    log_var = test.parameters.get("log_var")
    codes = np.asarray(posterior.codes) if isinstance(posterior, Quantized) else None
    try:
        cut = _surgery(subject, test, report)
    except UserError:
        cut = None
    evidence = Evidence(
        None if term is None else term.mean,
        None if term is None else term.by_dimension,
        None if _lack_of_scale(subject) else structure.variance_of_means(test.mean),
        None if codes is None else code_frequencies(subject.autoencoder, test.parameters),
        positions=0 if codes is None else codes.size,
        deviations=None if log_var is None else np.exp(np.asarray(log_var, np.float64) / 2).mean(axis=0),
        surgery=cut,
        log_likelihood=subject.found.get("log_likelihood"),
        elbo=subject.found.get("elbo"),
        losses=tuple((row.get("train/loss", math.nan), row.get("test/loss", math.nan)) for row in training.history),
        kl_of_epochs=[row["train/kl"] for row in training.history if "train/kl" in row and codes is None],
        loss=training.loss,
        reconstruction_weight=training.reconstruction_weight,
        fitting_weight=_fitting_weight(subject, test),
        epochs=len(training.history) or training.epochs,
        is_spatial=subject.autoencoder.is_spatial,
        posterior=type(subject.autoencoder.posterior).__name__,
    )
    notes = [f"{of.name}: {of.explanation}. What to do: {of.advice}" for of in diagnose(evidence)]
    return Found({}, notes=notes, how={"n": len(test.split), "split": "test"})


def _fitting_weight(subject: Subject, encoded: Encoded) -> float | None:
    """Return the weight of a mean squared error with which the loss has β = 1; None where that is no key of it."""
    if subject.training.reconstruction_weight is None or not isinstance(
        subject.autoencoder.likelihood, MeanSquaredError
    ):
        return None
    errors = [reconstruction.mse(*pair) for pair in subject.reconstructions(encoded.first(FITTED_IMAGES))]
    error = float(np.concatenate(errors).mean())
    return math.prod(subject.autoencoder.image_shape) / (2 * max(error, 1e-6))


def _kl_term(subject: Subject, encoded: Encoded, report: Report) -> KlTerm | None:
    """Return the KL divergence of images that are encoded; None where the posterior has no density.

    Without a closed form, it is that of one draw for each image, a function of the seed and the image's place.
    """
    autoencoder, labels = subject.autoencoder, subject.labels_of(encoded.split)
    prior, posterior = autoencoder.latent_prior(_tensor(labels)), subject.posterior(encoded)
    by_dimension = kl_by_dimension(posterior, prior)
    if by_dimension is not None:
        nats = np.asarray(by_dimension, np.float64)
        return KlTerm(nats.sum(axis=1), nats.mean(axis=0), False)
    if has_closed_form(posterior, prior):
        return KlTerm(np.asarray(kl_divergence(posterior, prior, posterior.mean), np.float64), None, False)
    if not autoencoder.posterior.has_density:
        return None
    size, of_images = batch_size_for(autoencoder), []
    for start in range(0, len(encoded.split), size):
        report(start / len(encoded.split))
        part = encoded.part(start, start + size)
        if labels is not None:
            prior = autoencoder.latent_prior(_tensor(labels[start : start + size]))
        posterior = subject.posterior(part)
        places = range(start, start + len(part.split))
        z = posterior.sample(CounterNoise(subject.config.seed, places, 0, 1))
        of_images.append(np.asarray(kl_divergence(posterior, prior, z), np.float64))
    return KlTerm(np.concatenate(of_images), None, True)


def _lack_of_scale(subject: Subject) -> str:
    """Return why the variance of embeddings does not say which dimensions are active; "" where it does."""
    posterior = subject.autoencoder.posterior
    if isinstance(posterior, CodePosterior):
        return "z is made of codes, whose vectors may have any length"
    if not posterior.has_density:
        return "a point has no variance of its own, which that of the embeddings could be held against"
    if isinstance(subject.autoencoder.prior, Sphere):
        return "on a sphere no coordinate can rest, since together they have the length 1"
    return ""


def _tensor(labels: NDArray[np.int64] | None) -> tf.Tensor | None:
    return None if labels is None else tf.constant(labels)


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
