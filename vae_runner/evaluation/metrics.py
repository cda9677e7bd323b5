"""Every metric of an evaluation: what it is fed with from a trained model and its images, and its values' names.

The metrics themselves are functions of arrays, a file each. Here they are given codes, images or features, and it is
said of how many images, of which split, and of which code.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Images, Split
from vae_runner.distributions.divergence import kl_by_dimension
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.errors import UserError
from vae_runner.evaluation import reconstruction, structure
from vae_runner.evaluation.ais import annealed_importance_sampling
from vae_runner.evaluation.beta_vae_score import beta_vae_score
from vae_runner.evaluation.dci import dci
from vae_runner.evaluation.diagnosis import Evidence, diagnose
from vae_runner.evaluation.embeddings import decode
from vae_runner.evaluation.evaluate import Found, Metric, Report, measured
from vae_runner.evaluation.explicitness import explicitness
from vae_runner.evaluation.factor_vae_score import factor_vae_score
from vae_runner.evaluation.features import FeatureSpace, classifier_features, file_features, random_features, to_pixels
from vae_runner.evaluation.frechet import IMAGES_PER_FEATURE, frechet_distance, frechet_distance_limit
from vae_runner.evaluation.irs import irs
from vae_runner.evaluation.kernel_distance import kernel_distance
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.likelihood import (
    Bounds,
    bits_per_dimension,
    effective_beta,
    log_likelihood,
    standard_error,
    with_fitted_sigma,
)
from vae_runner.evaluation.memorization import closest_to_training, memorization
from vae_runner.evaluation.mig import mig
from vae_runner.evaluation.modularity import modularity
from vae_runner.evaluation.precision_recall import OVER_CONCENTRATED, precision_recall
from vae_runner.evaluation.probes import knn_probe, linear_probe, majority_class, mlp_probe, principal_components
from vae_runner.evaluation.sap import sap_r2, sap_svm
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Encoded, Subject
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.training.noise import NumpyNoise

FITTED_IMAGES = 1000  # training images that a σ is fitted to

# --- likelihood ------------------------------------------------------------------------------------------------------


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
        weight, kl_weight = subject.training.reconstruction_weight, subject.training.loss.get("kl_weight")
        if isinstance(subject.autoencoder.likelihood, MeanSquaredError) and weight and isinstance(kl_weight, float):
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
    test = subject.images("test", min(config.ais_images, config.images))
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


# --- structure -------------------------------------------------------------------------------------------------------


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
    draws = subject.posterior(test).sample(_noise(subject, len(test.split)))
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
    some = encoded.first(FITTED_IMAGES)
    decoded = decode(subject.autoencoder, some.mean, subject.labels_of(some.split))
    error = float(reconstruction.mse(np.asarray(some.split.images) / np.float32(255), decoded).mean())
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


# --- reconstruction --------------------------------------------------------------------------------------------------


def reconstructions(subject: Subject, report: Report) -> Found:
    """Return errors and similarities of test images and what is decoded from their embeddings."""
    test = subject.encoded("test", subject.config.reconstruction.images)
    images = np.asarray(test.split.images) / np.float32(255)
    decoded = decode(subject.autoencoder, test.mean, subject.labels_of(test.split))
    height, width, _ = subject.autoencoder.image_shape
    side = reconstruction.window_for(height, width)
    ssim = "ssim" if side == reconstruction.WINDOW else f"ssim[{side}×{side}]"
    metrics = {
        "mse": reconstruction.mse, "psnr": reconstruction.psnr, ssim: reconstruction.ssim,
        reconstruction.ms_ssim_name(height, width): reconstruction.ms_ssim,
    }  # fmt: skip
    of_images = {}
    for number, (name, metric) in enumerate(metrics.items(), 1):
        of_images[name] = metric(images, decoded)
        report(number / len(metrics))
    values = {name: float(of_image.mean()) for name, of_image in of_images.items()}
    errors = {name: standard_error(of_image) for name, of_image in of_images.items()}
    return Found(values, errors, how={"n": len(images), "split": "test", "code": "mean"})


# --- disentanglement -------------------------------------------------------------------------------------------------


def mig_score(subject: Subject, report: Report) -> Found:
    """Return the mutual information gap, beside its ceiling."""
    codes, factors, how = _factors(subject)
    found, chance = mig(codes, factors), mig(_random(codes), factors)
    values = {"mig": found.score, "mig[ceiling]": found.ceiling, "mig[random code]": chance.score}
    information = found.mutual_information - found.bias
    arrays = {"mutual_information": {"mutual_information": information, "entropy": found.entropy, **_names(subject)}}
    return Found(values, how=how, arrays=arrays, pictured={"mutual_information": found})


def dci_score(subject: Subject, report: Report) -> Found:
    """Return disentanglement, completeness and informativeness by boosted trees."""
    config = subject.config.dci
    codes, factors, how = _factors(subject, config.samples + config.test_samples)
    found = dci(codes, factors, train=config.samples, test=config.test_samples, seed=subject.config.seed)
    values = {
        "dci_disentanglement": found.disentanglement, "dci_completeness": found.completeness,
        "dci_informativeness": found.informativeness, "dci_informativeness[chance]": found.chance,
    }  # fmt: skip
    notes = []
    if found.informativeness <= found.chance:
        notes.append("DCI: the trees learn nothing from z, so that its disentanglement and completeness mean nothing")
    how = {**how, "train": found.train, "test": found.test, "predictor": "GradientBoostingClassifier"}
    arrays = {"dci": {"importance": found.importance, "accuracy": found.accuracy, **_names(subject)}}
    return Found(values, notes=notes, how=how, arrays=arrays, pictured={"dci": found})


def predicted_factor_scores(subject: Subject, report: Report) -> Found:
    """Return the scores of how well a fixed factor is told: FactorVAE's and β-VAE's."""
    codes, factors, how = _factors(subject)
    by_votes = factor_vae_score(codes, factors, seed=subject.config.seed)
    report(0.5)
    by_regression = beta_vae_score(codes, factors, seed=subject.config.seed)
    values = {
        "factor_vae_score": by_votes.score,
        "factor_vae_score[chance]": by_votes.chance,
        "beta_vae_score": by_regression.score,
        "beta_vae_score[chance]": by_regression.chance,
    }
    return Found(values, how=how)


def sap(subject: Subject, report: Report) -> Found:
    """Return the gap of the two best predictors of each factor, by R² and by a support vector machine."""
    codes, factors, how = _factors(subject)
    train, test = _two_thirds(codes)
    values = {
        "sap[r2]": sap_r2(codes, factors, seed=subject.config.seed).score,
        "sap[svm]": sap_svm(codes, factors, train=train, test=test, seed=subject.config.seed).score,
    }
    random = _random(codes)
    values["sap[r2, random code]"] = sap_r2(random, factors, seed=subject.config.seed).score
    return Found(values, how={**how, "train": train, "test": test})


def other_scores(subject: Subject, report: Report) -> Found:
    """Return modularity, explicitness and interventional robustness, beside those of a random code."""
    codes, factors, how = _factors(subject)
    train, test = _two_thirds(codes)
    values = {}
    for name, of in (("", codes), ("[random code]", _random(codes))):
        values[f"modularity{name}"] = modularity(of, factors).score
        values[f"explicitness{name}"] = explicitness(of, factors, train=train, test=test).score
        values[f"irs{name}"] = irs(of, factors).score
        report(0.5 if not name else 1.0)
    note = "Modularity of noise is high: read it beside that of the random code, and never alone"
    return Found(values, notes=[note], how={**how, "train": train, "test": test})


def _factors(subject: Subject, least: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], Mapping[str, object]]:
    """Return embeddings and factors of images of the full grid where there is one, else of the test split."""
    encoded = subject.with_factors(max(subject.config.disentanglement.images, least))
    factors = encoded.split.factors
    assert factors is not None
    split = "grid" if subject.dataset.grid is not None else "test"
    return encoded.mean, np.asarray(factors), {"n": len(factors), "split": split, "code": "mean"}


def _names(subject: Subject) -> dict[str, NDArray[np.str_]]:
    return {"factor_names": np.array(subject.dataset.factor_names, np.str_)}


def _random(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    return random_code(*codes.shape)


def _two_thirds(codes: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many codes a predictor learns from and is tested on: 10,000 and 5,000, or fewer in this proportion."""
    test = min(len(codes) // 3, 5000)
    return min(len(codes) - test, 10_000), test


# --- probes ----------------------------------------------------------------------------------------------------------


def probes(subject: Subject, report: Report) -> Found:
    """Return how well classes are told from embeddings, from raw pixels, and from as many principal components."""
    config = subject.config.probes
    train, test = subject.encoded("train", config.train_images), subject.encoded("test", config.images)
    labels, test_labels = train.labels, test.labels
    pixels, test_pixels = (_flat(of.split.images) for of in (train, test))
    size = min(subject.autoencoder.latent, *pixels.shape)
    codes = {
        "": (train.mean, test.mean),
        "[pixels]": (pixels, test_pixels),
        f"[pca {size}]": principal_components(pixels, test_pixels, size),
    }
    values = {}
    for number, (name, (of_train, of_test)) in enumerate(codes.items(), 1):
        values[f"linear_probe{name}"] = linear_probe(of_train, labels, of_test, test_labels)
        values[f"knn_probe{name}"] = knn_probe(of_train, labels, of_test, test_labels)
        if config.mlp:
            seed = subject.config.seed
            values[f"mlp_probe{name}"] = mlp_probe(of_train, labels, of_test, test_labels, seed=seed)
        report(number / len(codes))
    values["majority_class"] = majority_class(labels, test_labels)
    notes = []
    if len(subject.autoencoder.encoder.inputs) > 1:
        notes.append("The encoder is given the class: what probes tell from z is what z repeats of it")
    if values["linear_probe"] < values[f"linear_probe[pca {size}]"]:
        notes.append(
            f"A linear probe of z does worse than one of {size} principal components of the pixels: z has lost what "
            "tells the classes apart"
        )
    return Found(values, notes=notes, how={"n_train": len(labels), "n": len(test_labels), "code": "mean"})


def _flat(images: Images) -> NDArray[np.float32]:
    """Return pixels in [0, 1], `[n, pixels]`."""
    return np.reshape(np.asarray(images, np.float32) / 255, (len(images), -1))


# --- samples ---------------------------------------------------------------------------------------------------------


def sample_quality(subject: Subject, report: Report) -> Found:
    """Return distances of samples from test images in a named feature space, beside those of training images."""
    number = subject.config.samples.number
    space = _feature_space(subject, lambda done: report(0.6 * done))
    real = subject.images("test", number)
    test, train = space(real.images), space(subject.images("train", len(real)).images)
    samples = space(_samples(subject, real))
    count = min(len(samples), len(train), len(test))
    subset = max(min(count // 2, 1000), 2)
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    for features, name in ((samples[:count], space.name), (train[:count], f"{space.name}, real")):
        distance = kernel_distance(features, test[:count], subset_size=subset, seed=subject.config.seed)
        near = precision_recall(features, test[:count])
        values |= {
            f"kernel_distance[{name}]": distance.mean,
            f"precision[{name}]": near.precision,
            f"recall[{name}]": near.recall,
            f"density[{name}]": near.density,
            f"coverage[{name}]": near.coverage,
        }
        if count >= IMAGES_PER_FEATURE * features.shape[1]:
            values[f"frechet_distance[{name}]"] = frechet_distance(features, test[:count])
        if count >= 2 * IMAGES_PER_FEATURE * features.shape[1]:
            values[f"frechet_distance_limit[{name}]"] = frechet_distance_limit(features, test[:count])
        errors[f"kernel_distance[{name}]"] = distance.sd
    notes = [f"[…, real]: {count:,} training images in place of samples, the floor that samples are to be read by"]
    if count < IMAGES_PER_FEATURE * samples.shape[1]:
        notes.append(
            f"{count:,} images are too few for a Fréchet distance in {samples.shape[1]} features: of fewer than "
            f"{IMAGES_PER_FEATURE} a feature most of it is bias"
        )
    if values[f"density[{space.name}]"] > OVER_CONCENTRATED:
        notes.append(
            "The density is above 1.1: samples lie closer together than images, as a blurry decoder's; it is no praise"
        )
    how = {
        "n": count, "reference": "test", "features": space.name, "feature_dimensions": samples.shape[1],
        "weights": space.weights_hash, "accuracy": space.accuracy, "kernel_subset": subset, "neighbours": [3, 5],
    }  # fmt: skip
    return Found(values, errors, notes, how)


def copies(subject: Subject, report: Report) -> Found:
    """Return the share of samples closer to training images than to as many test images, which memory makes large."""
    number = subject.config.samples.number
    real = subject.images("test", number)
    train, test = np.asarray(subject.images("train", number).images), np.asarray(real.images)
    samples = _samples(subject, real)
    found = memorization(samples, train, test, seed=subject.config.seed)
    near = closest_to_training(samples, train)
    pairs = {
        "samples": samples[near.samples], "training_images": train[near.training_images], "distances": near.distances
    }  # fmt: skip
    how = {
        "n": len(samples), "of_either": found.images, "searched": len(train), "distance": "pixels",
        "without_memory": 0.5,
    }  # fmt: skip
    errors = {"closer_to_training": found.null_standard_error}
    pictured = {"nearest_neighbours": pairs}
    return Found({"closer_to_training": found.share}, errors, how=how, pictured=pictured)


def _feature_space(subject: Subject, report: Report) -> FeatureSpace:
    features = subject.config.samples.features
    shape = subject.autoencoder.image_shape
    if features == "random":
        return random_features(shape, seed=subject.config.seed)
    if features != "classifier":
        return file_features(features, shape)
    train, test = subject.splits["train"], subject.splits["test"]
    if train.labels is None or test.labels is None:
        raise UserError(
            "evaluation.samples.features=classifier needs labels, and the images have none: choose "
            "evaluation.samples.features=random, or a .keras file"
        )
    return classifier_features(
        train.images, train.labels, test.images, test.labels, seed=subject.config.seed, report=report
    )  # fmt: skip


def _samples(subject: Subject, real: Split) -> NDArray[np.uint8]:
    """Return as many images decoded from draws of the prior as there are real ones, and of their classes.

    Where images are black and white, the pixels are drawn too.
    """
    autoencoder, labels = subject.autoencoder, subject.labels_of(real)
    z = np.asarray(autoencoder.latent_prior(labels).sample(_noise(subject, len(real))))
    images = decode(autoencoder, z, labels)
    if autoencoder.likelihood.measure == "binary":
        images = (np.random.default_rng(subject.config.seed).random(images.shape, np.float32) < images).astype(
            np.float32
        )
    return to_pixels(images)


def _noise(subject: Subject, count: int) -> NumpyNoise:
    return NumpyNoise(np.random.default_rng(subject.config.seed), count, np.float32)


METRICS = (
    Metric("importance_sampling", "likelihood", likelihood, ("likelihood",)),
    Metric("annealed_importance_sampling", "likelihood", ais, ("likelihood",)),
    Metric("kl", "structure", kl, ("structure",)),
    Metric("surgery", "structure", surgery, ("structure",)),
    Metric("gaussian_total_correlation", "structure", gaussian_total_correlation, ("structure",)),
    Metric("diagnosis", "structure", diagnosis, ("structure",), uses=("log_likelihood", "elbo")),
    Metric("reconstruction", "reconstruction", reconstructions, ("reconstruction",)),
    Metric("mig", "disentanglement", mig_score, ("disentanglement",)),
    Metric("dci", "disentanglement", dci_score, ("disentanglement", "dci")),
    Metric("fixed_factor_scores", "disentanglement", predicted_factor_scores, ("disentanglement",)),
    Metric("sap", "disentanglement", sap, ("disentanglement",)),
    Metric("modularity_explicitness_irs", "disentanglement", other_scores, ("disentanglement",)),
    Metric("probes", "probes", probes, ("probes",)),
    Metric("sample_quality", "samples", sample_quality, ("samples",)),
    Metric("memorization", "samples", copies, ("samples",)),
)


def metrics_of(config: EvaluationConfig) -> list[Metric]:
    """Return the metrics that a configuration asks for."""
    return [
        metric
        for metric in METRICS
        if metric.group in config.metrics and (metric.measure is not ais or config.likelihood.ais_images)
    ]


def is_due(config: EvaluationConfig, epoch: int) -> bool:
    """Return whether the model is measured after this epoch of its training, too."""
    return bool(config.metrics and config.every) and epoch % config.every == 0


def evaluated(subject: Subject) -> dict[str, float]:
    """Return the values of all metrics that the configuration asks for, without those that cannot be measured."""
    values: dict[str, float] = {}
    for metric in metrics_of(subject.config):
        subject.found = values
        values = {**values, **measured(subject, metric, lambda done: None).found.values}
    return values
