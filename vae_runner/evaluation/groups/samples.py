"""The group `samples`: how near samples of the prior are to real images, and whether they are copies."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_runner.config.composition import CLASSIFIER, RANDOM
from vae_runner.datasets.dataset import Split
from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import decode
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.frechet import IMAGES_PER_FEATURE, frechet_distance, frechet_distance_limit
from vae_runner.evaluation.kernel_distance import kernel_distance
from vae_runner.evaluation.memorization import closest_to_training, memorization
from vae_runner.evaluation.precision_recall import OVER_CONCENTRATED, precision_recall
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject
from vae_runner.models.features import FeatureSpace, classifier_features, file_features, random_features, to_pixels

PIXELS = 1  # the number of the draws that make pixels black or white


def sample_quality(subject: Subject, report: Report) -> Found:
    """Return distances of samples from test images in a named feature space, beside those of training images."""
    number = subject.fitting(subject.config.samples.number)
    space = _feature_space(subject, lambda done: report(0.6 * done))
    real = subject.images("test", number)
    test, train = space(real.images), space(subject.images("train", len(real)).images)
    samples = space(_samples(subject, real))
    count = min(len(samples), len(train), len(test))
    subset = max(min(count // 2, 1000), 2)
    values: dict[str, float] = {}
    for features, name in ((samples[:count], space.name), (train[:count], f"{space.name}, real")):
        distance = kernel_distance(features, test[:count], subset_size=subset, seed=subject.config.seed)
        near = precision_recall(features, test[:count])
        values |= {
            f"kernel_distance[{name}]": distance.mean,
            f"kernel_distance[{name}, sd of subsets]": distance.sd,
            f"precision[{name}]": near.precision,
            f"recall[{name}]": near.recall,
            f"density[{name}]": near.density,
            f"coverage[{name}]": near.coverage,
        }
        if count >= IMAGES_PER_FEATURE * features.shape[1]:
            values[f"frechet_distance[{name}]"] = frechet_distance(features, test[:count])
        if count >= 2 * IMAGES_PER_FEATURE * features.shape[1]:
            values[f"frechet_distance_limit[{name}]"] = frechet_distance_limit(
                features, test[:count], seed=subject.config.seed
            )
    seen = ", which the classifier has learnt from" if space.name == "classifier" else ""
    notes = [
        *subject.cut("test", subject.config.samples.number),
        f"[…, real]: {count:,} training images{seen}, in place of samples: the floor that samples are to be read by",
    ]
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
    return Found(values, notes=notes, how=how)


def copies(subject: Subject, report: Report) -> Found:
    """Return the share of samples closer to training images than to as many test images, which memory makes large."""
    number = subject.fitting(subject.config.samples.number)
    real = subject.images("test", number)
    train, test = np.asarray(subject.images("train", number).images), np.asarray(real.images)
    samples = _samples(subject, real)
    found = memorization(samples, train, test, seed=subject.config.seed)
    near = closest_to_training(samples, train)
    pairs = {
        "samples": samples[near.samples], "training_images": train[near.training_images], "distances": near.distances
    }  # fmt: skip
    how = {"n": len(samples), "images_of_either_split": found.images, "searched": len(train), "distance": "pixels"}
    notes = [
        *(note for name in ("train", "test") for note in subject.cut(name, subject.config.samples.number)),
        f"Without memory closer_to_training is 0.5, with a standard error of {found.null_standard_error:.2g} for so "
        "many samples and images",
    ]
    return Found({"closer_to_training": found.share}, notes=notes, how=how, pictured={"nearest_neighbours": pairs})


def _feature_space(subject: Subject, report: Report) -> FeatureSpace:
    features = subject.config.samples.features
    shape = subject.autoencoder.image_shape
    if features == RANDOM:
        return random_features(shape, seed=subject.config.seed)
    if features != CLASSIFIER:
        return file_features("evaluation.samples.features", features, shape)
    train, test = subject.splits["train"], subject.splits["test"]
    if train.labels is None or test.labels is None:
        raise UserError(
            "evaluation.samples.features=classifier needs labels, and the images have none: choose "
            "evaluation.samples.features=random, or a .keras file"
        )
    return classifier_features(
        train.images, train.labels, test.images, test.labels, seed=subject.config.seed, report=report
    )  # fmt: skip


def _files(config: EvaluationConfig) -> dict[str, str]:
    """Return the hash of the file of the feature space, if it is one; "" where it cannot be read."""
    features = config.samples.features
    if features in (CLASSIFIER, RANDOM):
        return {}
    try:
        content = Path(features).expanduser().read_bytes()
    except OSError:  # What is to be said of it is said where it is measured.
        return {"features_sha256": ""}
    return {"features_sha256": hashlib.sha256(content).hexdigest()}


def _samples(subject: Subject, real: Split) -> NDArray[np.uint8]:
    """Return as many images decoded from draws of the prior as there are real ones, and of their classes.

    Where images are black and white, the pixels are drawn too.
    """
    autoencoder, labels = subject.autoencoder, subject.labels_of(real)
    z = np.asarray(autoencoder.latent_prior(labels).sample(subject.noise(len(real))))
    images = decode(autoencoder, z, labels)
    if autoencoder.likelihood.measure == "binary":
        pixels = np.random.default_rng([subject.config.seed, PIXELS])  # other numbers than those that z is made of
        images = (pixels.random(images.shape, np.float32) < images).astype(np.float32)
    return to_pixels(images)


METRICS = (
    Metric("sample_quality", "samples", sample_quality, ("samples",), files=_files),
    Metric("memorization", "samples", copies, ("samples",)),
)
