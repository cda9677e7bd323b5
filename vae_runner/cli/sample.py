"""`vae-sample`: new images from a finished run."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import decode
from vae_runner.experiment import load
from vae_runner.figures.grid import image_grid
from vae_runner.files.atomic import check_writable, write_atomic
from vae_runner.storage.pictures import save_figure
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.noise import NumpyNoise

MAX_PICTURE_PIXELS = 50_000_000
MAX_ARRAY_PIXELS = 500_000_000


def sample(run: Path, number: int, out: Path, seed: int, trust: Sequence[str]) -> None:
    """Decode `number` draws of the prior with the run's decoder, into a .png or .npy file.

    Raises:
        UserError: `run` is no finished run, or `out` cannot be written.
    """
    kind = out.suffix.lower()
    if kind not in (".png", ".npy"):
        raise UserError(f"--out {out}: the name must end in .png (a picture) or .npy (an array)")
    check_writable(out)
    autoencoder = load(StoredRun.open_finished(run), trust)
    height, width, _ = autoencoder.image_shape
    most = (MAX_PICTURE_PIXELS if kind == ".png" else MAX_ARRAY_PIXELS) // (height * width)
    if number > most:
        raise UserError(f"-n {number}: a {kind} holds at most {most} images of {height}×{width}; draw fewer")
    noise = NumpyNoise(np.random.default_rng(seed), number, np.float32)
    images = decode(autoencoder, np.asarray(autoencoder.latent_prior().sample(noise)))
    if kind == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.round(images * 255).astype(np.uint8))
        write_atomic(out, buffer.getvalue())
    else:
        columns = int(np.ceil(np.sqrt(number)))
        save_figure(image_grid(images, columns, f"{number} samples, z ~ {autoencoder.prior.symbol}"), out)
    print(f"{number} images in {out}")
