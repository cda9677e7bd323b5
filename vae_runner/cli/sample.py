"""`vae-sample`: new images from a finished run."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_runner.cli.fitting import decodes_draws, fitted
from vae_runner.errors import UserError, did_you_mean
from vae_runner.evaluation.embeddings import decode
from vae_runner.experiment import load
from vae_runner.figures.grid import image_grid
from vae_runner.figures.labels import plain_text
from vae_runner.figures.reconstructions import LONGEST_CAPTION
from vae_runner.files.atomic import check_writable, write_atomic
from vae_runner.posteriors.base import CodePosterior
from vae_runner.storage.pictures import save_figure
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.noise import NumpyNoise

MAX_PICTURE_PIXELS = 50_000_000
MAX_ARRAY_PIXELS = 500_000_000
SHOWN_CLASSES = 20  # in a message
LONGEST_NAME = 24  # letters in the title


class Fit(NamedTuple):
    """What a density is fitted to a run's latents with."""

    kind: str
    components: int  # of a mixture; 0: as many as fit best
    moved: Mapping[str, str | None]  # the keys that say where the training images are now, if not where they were


def sample(
    run: Path,
    number: int,
    out: Path,
    seed: int,
    trust: Sequence[str],
    label: str | None = None,
    fit: Fit | None = None,
) -> None:
    """Decode `number` draws with the run's decoder, into a .png or .npy file.

    They are from the run's prior, or with `fit` from a density of the latents of its training images. Where the run is
    conditional, they are of the class `label`, its name or index, or of the classes in turn.

    Raises:
        UserError: `run` is no finished run, has no such class, or `out` cannot be written; or nothing can be fitted.
    """
    kind = out.suffix.lower()
    if kind not in (".png", ".npy"):
        raise UserError(f"--out {out}: the name must end in .png (a picture) or .npy (an array)")
    check_writable(out)
    stored = StoredRun.open_finished(run)
    autoencoder = load(stored, trust)
    labels, names = None, []
    if autoencoder.classes:
        names = _names(stored, autoencoder.classes)
        labels = np.arange(number) % autoencoder.classes if label is None else np.full(number, _index(label, names))
    elif label is not None:
        raise UserError(
            f"--label {label}: {run} does not depend on classes: leave it out, or train with model.conditional=true"
        )
    height, width, _ = autoencoder.image_shape
    most = (MAX_PICTURE_PIXELS if kind == ".png" else MAX_ARRAY_PIXELS) // (height * width)
    if number > most:
        raise UserError(f"-n {number}: a {kind} holds at most {most} images of {height}×{width}; draw fewer")
    if fit is not None:
        density = fitted(stored, autoencoder, fit.kind, fit.components, trust, **fit.moved)
        z, symbol = density.sample(autoencoder, labels, number, seed), density.symbol
    else:
        noise = NumpyNoise(np.random.default_rng(seed), number, np.float32)
        z, symbol = np.asarray(autoencoder.latent_prior(labels).sample(noise)), autoencoder.prior.symbol
    images = decode(autoencoder, z, labels)
    if not np.isfinite(images).all():
        raise UserError(f"{run} makes images of values that are not finite: its weights are NaN, or far too large")
    if kind == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.round(images * 255).astype(np.uint8))
        write_atomic(out, buffer.getvalue())
    else:
        columns = int(np.ceil(np.sqrt(number)))
        title, captions = f"{number} samples, z ~ {symbol}", []
        if labels is not None and label is None:
            captions = [plain_text(names[of_image], LONGEST_CAPTION) for of_image in labels]
        elif labels is not None:
            name = plain_text(names[labels[0]], LONGEST_NAME)
            title = f"{number} samples of class {name}, z ~ {symbol}"
        save_figure(image_grid(images, columns, title, captions=captions), out)
    print(f"{number} images in {out}")
    if fit is None and not (autoencoder.posterior.has_density and decodes_draws(stored)):
        if isinstance(autoencoder.posterior, CodePosterior):
            lack, kinds = f"The prior of this run, {symbol}, knows nothing of which codes go together", "autoregressive"
        else:
            lack, kinds = f"This run was trained without a KL divergence from its prior, {symbol}", "mixture or flow"
        print(f"{lack}: --prior {kinds} draws from a density of the latents themselves")


def _names(run: StoredRun, classes: int) -> list[str]:
    """Return the names of a run's classes: their numbers where the dataset has not named each."""
    _, _, names = run.test_images
    return names if len(names) == classes else [str(number) for number in range(classes)]


def _index(label: str, names: Sequence[str]) -> int:
    """Return the index of the class that a label names; where none has that name, it may be the index."""
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    known = ", ".join(names[:SHOWN_CLASSES]) + (", …" if len(names) > SHOWN_CLASSES else "")
    raise UserError(f"--label {label}: there is no such class.{did_you_mean(label, names)} The run has {known}.")
