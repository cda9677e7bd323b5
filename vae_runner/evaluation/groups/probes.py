"""The group `probes`: how well classes are told from embeddings."""

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Images
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.probes import (
    accuracy_error,
    knn_probe,
    linear_probe,
    majority_class,
    mlp_probe,
    principal_components,
)
from vae_runner.evaluation.subject import Subject


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
    errors = {name: accuracy_error(value, len(test_labels)) for name, value in values.items()}
    of_pixels = f"linear_probe[pca {size}]"
    if values["linear_probe"] < values[of_pixels] - 2 * errors[of_pixels]:
        notes.append(
            f"A linear probe of z does worse than one of {size} principal components of the pixels: z has lost what "
            "tells the classes apart"
        )
    return Found(values, errors, notes, how={"n_train": len(labels), "n": len(test_labels), "code": "mean"})


def _flat(images: Images) -> NDArray[np.float32]:
    """Return pixels in [0, 1], `[n, pixels]`."""
    return np.reshape(np.asarray(images, np.float32) / 255, (len(images), -1))


METRICS = (Metric("probes", "probes", probes, ("probes",)),)
