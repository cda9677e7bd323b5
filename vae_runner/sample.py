"""`vae-sample`: new images from a finished run."""

import io
from pathlib import Path

import numpy as np

from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import decode
from vae_runner.figures.grid import image_grid
from vae_runner.run_directory import RunDirectory, save_figure, write_whole

MAX_IMAGES_IN_PICTURE = 10_000


def sample(run: Path, number: int, out: Path, seed: int) -> None:
    """Decode `number` draws of the prior N(0, I) with the run's decoder, into a .png or .npy file.

    Raises:
        UserError: `run` is no finished run, or `out` cannot be written.
    """
    if out.suffix not in (".png", ".npy"):
        raise UserError(f"--out {out}: the name must end in .png (a picture) or .npy (an array)")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.suffix == ".png" and number > MAX_IMAGES_IN_PICTURE:
        raise UserError(f"-n {number}: a picture holds at most {MAX_IMAGES_IN_PICTURE}; write a .npy for more")
    autoencoder = RunDirectory.open_finished(run).load_autoencoder()
    z = np.random.default_rng(seed).standard_normal((number, autoencoder.latent), np.float32)
    images = decode(autoencoder, z)
    if out.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.round(images * 255).astype(np.uint8))
        write_whole(out, buffer.getvalue())
    else:
        columns = int(np.ceil(np.sqrt(number)))
        save_figure(image_grid(images, columns, f"{number} samples, z ~ N(0, I)"), out)
    print(f"{number} images in {out}")
