"""The group `reconstruction`: errors and similarities of test images and their reconstructions."""

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation import reconstruction
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.likelihood import standard_error
from vae_runner.evaluation.subject import Subject


def reconstructions(subject: Subject, report: Report) -> Found:
    """Return errors and similarities of test images and what is decoded from their embeddings."""
    test = subject.encoded("test", subject.config.reconstruction.images)
    height, width, _ = subject.autoencoder.image_shape
    side = reconstruction.window_for(height, width)
    ssim = "ssim" if side == reconstruction.WINDOW else f"ssim[{side}×{side}]"
    metrics = {
        "mse": reconstruction.mse, "psnr": reconstruction.psnr, ssim: reconstruction.ssim,
        reconstruction.ms_ssim_name(height, width): reconstruction.ms_ssim,
    }  # fmt: skip
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    done, count = 0, len(test.split)
    for images, decoded in subject.reconstructions(test):
        for name, metric in metrics.items():
            parts[name].append(metric(images, decoded))
        done += len(images)
        report(done / count)
    of_images = {name: np.concatenate(part) for name, part in parts.items()}
    values = {name: float(of_image.mean()) for name, of_image in of_images.items()}
    errors = {name: standard_error(of_image) for name, of_image in of_images.items()}
    return Found(values, errors, how={"n": count, "split": "test", "code": "mean"})


METRICS = (Metric("reconstruction", "reconstruction", reconstructions, ("reconstruction",)),)
