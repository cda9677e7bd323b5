"""The group `reconstruction`: errors and similarities of test images and their reconstructions."""

import numpy as np

from vae_runner.evaluation import reconstruction
from vae_runner.evaluation.embeddings import decode
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.likelihood import (
    standard_error,
)
from vae_runner.evaluation.subject import Subject


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


METRICS = (Metric("reconstruction", "reconstruction", reconstructions, ("reconstruction",)),)
