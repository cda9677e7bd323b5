"""`vae-sample`: new images from a finished run."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_runner.cli.fitting import decodes_draws, fitted
from vae_runner.cli.own_images import check_labelled
from vae_runner.datasets.io.preprocessing import BrokenImageError
from vae_runner.errors import UserError, counted
from vae_runner.figures.grid import image_grid
from vae_runner.figures.labels import plain_text
from vae_runner.figures.reconstructions import LONGEST_CAPTION
from vae_runner.files.atomic import check_writable, write_atomic
from vae_runner.posteriors.base import CodePosterior
from vae_runner.storage.pictures import save_figure
from vae_runner.stored_model import Pixels, StoredModel

MAX_PICTURE_PIXELS = 50_000_000
MAX_ARRAY_PIXELS = 500_000_000
LONGEST_NAME = 24  # letters in the title
LONGEST_ROW = 14  # images on a path that are drawn in one row


class Fit(NamedTuple):
    """What a density is fitted to a run's latents with."""

    kind: str
    components: int  # of a mixture; 0: as many as fit best
    moved: Mapping[str, str | None]  # the keys that say where the training images are now, if not where they were


class Drawn(NamedTuple):
    """What goes into a file: images, and beside them in a picture the images that they are made of."""

    images: Pixels
    title: str
    captions: Sequence[str] = ()  # of the images, and of those around them
    before: Pixels | None = None  # what a picture shows first
    after: Pixels | None = None  # and last
    columns: int | None = None  # None: about as many as rows


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
    model = _opened(run, out, number, trust)
    labels = model.labels_in_turn(number) if label is None else model.labels(label, number)
    if fit is not None:
        density = fitted(model.run, model.autoencoder, fit.kind, fit.components, trust, **fit.moved)
        z, symbol = density.sample(model.autoencoder, labels, number, seed), density.symbol
    else:
        z, symbol = model.sample(number, labels, seed), model.autoencoder.prior.symbol
    title, captions = f"{counted(number, 'sample')}, z ~ {symbol}", []
    if labels is not None and label is None:
        captions = [plain_text(model.class_names[of_image], LONGEST_CAPTION) for of_image in labels]
    elif labels is not None:
        name = plain_text(model.class_names[labels[0]], LONGEST_NAME)
        title = f"{counted(number, 'sample')} of class {name}, z ~ {symbol}"
    _write(Drawn(model.decode(z, labels), title, captions), out)
    if fit is None and not (model.autoencoder.posterior.has_density and decodes_draws(model.run)):
        if isinstance(model.autoencoder.posterior, CodePosterior):
            lack, kinds = f"The prior of this run, {symbol}, knows nothing of which codes go together", "autoregressive"
        else:
            lack, kinds = f"This run was trained without a KL divergence from its prior, {symbol}", "mixture or flow"
        print(f"{lack}: --prior {kinds} draws from a density of the latents themselves")


def variations(
    run: Path, image: Path, number: int, out: Path, seed: int, trust: Sequence[str], label: str | None
) -> None:
    """Decode `number` draws of an image's posterior, into a .png, which begins with the image, or a .npy file.

    Raises:
        UserError: as `sample` does; or there is no such image, or its posterior is a point.
    """
    model = _opened(run, out, number, trust)
    pixels = _prepared(model, image, label)
    of_image = model.labels(label, 1)
    draws = model.encode(pixels, of_image, number, np.random.default_rng(seed)).draws
    assert draws is not None
    images = model.decode(draws[0], model.labels(label, number))
    title = f"{counted(number, 'variation')} of {plain_text(image.name, LONGEST_NAME)}, z ~ q(z|x)"
    _write(Drawn(images, title, ["image", *[""] * number], before=pixels), out)


def path_between(
    run: Path, images: tuple[Path, Path], number: int, out: Path, trust: Sequence[str], label: str | None
) -> None:
    """Decode `number` latents from one image's embedding to another's, into a .png, between the two, or a .npy file.

    Raises:
        UserError: as `sample` does; or there is no such image, or latents are codes.
    """
    model = _opened(run, out, number, trust)
    first, last = (_prepared(model, image, label) for image in images)
    of_path = model.labels(label, number)
    decoded = model.decode(model.between(first[0], last[0], number, model.labels(label, 2)), of_path)
    title = "From {} to {}, along a line in latent space".format(*(plain_text(i.name, LONGEST_NAME) for i in images))
    captions = ["image", *(f"{weight:.0%}" for weight in np.linspace(0, 1, number)), "image"]
    columns = number + 2 if number <= LONGEST_ROW else None
    _write(Drawn(decoded, title, captions, first, last, columns), out)


def _opened(run: Path, out: Path, number: int, trust: Sequence[str]) -> StoredModel:
    """Return a run's model; refuse a file that cannot be written, and more images than it can hold."""
    kind = out.suffix.lower()
    if kind not in (".png", ".npy"):
        raise UserError(f"--out {out}: the name must end in .png (a picture) or .npy (an array)")
    check_writable(out)
    model = StoredModel.open(run, trust)
    height, width, _ = model.autoencoder.image_shape
    most = (MAX_PICTURE_PIXELS if kind == ".png" else MAX_ARRAY_PIXELS) // (height * width)
    if number > most:
        raise UserError(f"-n {number}: a {kind} holds at most {counted(most, 'image')} of {height}×{width}; draw fewer")
    return model


def _prepared(model: StoredModel, image: Path, label: str | None) -> Pixels:
    """Return an image as the run's own were prepared, `[1, height, width, channels]`; ask for its class if need be."""
    check_labelled(model, label)
    try:
        pixels = model.preparation.preprocessing(image)
    except BrokenImageError as error:
        raise UserError(f"{error.problem}: give another image") from error
    return model.checked(pixels[np.newaxis])


def _write(drawn: Drawn, out: Path) -> None:
    """Write images as an array, or with those around them as a picture; say so."""
    images, replaced = drawn.images, check_writable(out)
    if out.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, images)
        write_atomic(out, buffer.getvalue())
    else:
        shown = np.concatenate([part for part in (drawn.before, images, drawn.after) if part is not None])
        columns = drawn.columns or int(np.ceil(np.sqrt(len(shown))))
        save_figure(image_grid(shown, columns, drawn.title, captions=drawn.captions), out)
    print(f"{counted(len(images), 'image')} in {out}{replaced}")
