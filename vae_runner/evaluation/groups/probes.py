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
    pixels, test_pixels = (_flat(of.first(subject.fitting(len(of.split))).split.images) for of in (train, test))
    size = min(subject.autoencoder.latent, *pixels.shape)
    codes = {
        "": (train.mean, test.mean),
        "[pixels]": (pixels, test_pixels),
        f"[pca {size}]": principal_components(pixels, test_pixels, size),
    }
    values = {}
    for number, (name, (of_train, of_test)) in enumerate(codes.items(), 1):
        given = of_train, labels[: len(of_train)], of_test, test_labels[: len(of_test)]
        values[f"linear_probe{name}"] = linear_probe(*given)
        values[f"knn_probe{name}"] = knn_probe(*given)
        if config.mlp:
            values[f"mlp_probe{name}"] = mlp_probe(*given, seed=subject.config.seed)
        report(number / len(codes))
    values["majority_class"] = majority_class(labels, test_labels)
    notes = [
        f"{note}: the probes of pixels and of principal components have those only"
        for note in (*subject.cut("train", config.train_images), *subject.cut("test", config.images))
    ]
    if len(subject.autoencoder.encoder.inputs) > 1:
        notes.append("The encoder is given the class: what probes tell from z is what z repeats of it")
    errors = {
        name: accuracy_error(value, len(test_pixels if "[" in name else test_labels)) for name, value in values.items()
    }
    of_pixels = f"linear_probe[pca {size}]"
    if values["linear_probe"] < values[of_pixels] - 2 * errors[of_pixels]:
        notes.append(
            f"A linear probe of z does worse than one of {size} principal components of the pixels: z has lost what "
            "tells the classes apart"
        )
    how = {
        "n_train": len(labels), "n": len(test_labels), "n_train_pixels": len(pixels), "n_pixels": len(test_pixels),
        "code": "mean",
    }  # fmt: skip
    return Found(values, errors, notes, how)


def _flat(images: Images) -> NDArray[np.float32]:
    """Return pixels in [0, 1], `[n, pixels]`."""
    return np.reshape(np.asarray(images, np.float32) / 255, (len(images), -1))


METRICS = (Metric("probes", "probes", probes, ("probes",)),)
