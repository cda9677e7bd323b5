"""`vae-encode` and `vae-reconstruct`: the user's own images through a finished run, batch by batch."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_runner.datasets.io.image_files import find_images
from vae_runner.datasets.io.prepared import decoded
from vae_runner.datasets.io.preprocessing import BrokenImageError, none_usable
from vae_runner.errors import UserError, counted
from vae_runner.evaluation.embeddings import batch_size_for
from vae_runner.files.atomic import check_writable, filling, replacing
from vae_runner.files.csv_table import no_formula
from vae_runner.files.growing_arrays import GrowingArrays
from vae_runner.files.pictures import picture_of
from vae_runner.files.untrusted import is_file
from vae_runner.runtime.console import console, plain, progress_bar
from vae_runner.storage.pictures import COMPRESSION
from vae_runner.stored_model import Labels, Latents, Pixels, StoredModel

FOLDERS = "folders"  # `--labels folders`: the class of an image is the name of its folder


class Labelling(NamedTuple):
    """How the classes of images are given, where a run depends on them."""

    label: str | None  # of all images
    by_folder: bool  # each lies in a folder of its class's name


class Batch(NamedTuple):
    """Some images, prepared for the encoder."""

    names: list[str]  # relative to the folder they were found in
    pixels: Pixels
    labels: Labels


class OwnImages:
    """The images below a folder, or a single one, in the order of their names; a few are in memory at a time."""

    def __init__(self, root: Path, model: StoredModel, labelling: Labelling) -> None:
        """Find the images, and refuse labels that are not the run's, or are missing.

        Raises:
            UserError: there is no image, or a class is missing, or is none of the run's.
        """
        self.model = model
        if is_file(root):
            self.files, self._folder = [root], root.parent
        else:
            found = find_images(root, key="")
            self.files, self._folder = found.files, root
            if found.passed_over:
                console.print(plain(f"Passed over in {root}: {found.passed_over}"), soft_wrap=True)
        self.names = [file.relative_to(self._folder).as_posix() for file in self.files]
        check_labelled(model, labelling.label, labelling.by_folder)
        by_folder = [Path(name).parent.as_posix() for name in self.names] if labelling.by_folder else None
        self._labels = model.labels(labelling.label if by_folder is None else by_folder, len(self.files))
        self._broken: list[str] = []

    def batches(self, title: str) -> Iterator[Batch]:
        """Yield the images that can be used, and print the name of each that cannot; a progress bar has this title.

        Raises:
            UserError: none of them can be used.
        """
        size, preparation = batch_size_for(self.model.autoencoder), self.model.preparation
        images, places = [], []
        with progress_bar(title, len(self.files), "images") as advance:
            for place, image in enumerate(decoded(self.files, preparation.preprocessing)):
                if isinstance(image, BrokenImageError):
                    self._broken.append(image.problem)
                    console.print(plain(f"Skipped: {image.problem}"), soft_wrap=True)
                else:
                    images.append(image)
                    places.append(place)
                if images and (len(images) == size or place == len(self.files) - 1):
                    of_batch = np.array(places)
                    yield Batch(
                        [self.names[index] for index in places],
                        preparation.binary(np.stack(images), of_batch),
                        None if self._labels is None else self._labels[of_batch],
                    )
                    images, places = [], []
                advance(1)
        if len(self._broken) == len(self.files):
            raise none_usable(len(self.files), self._broken[0])

    def finish(self, out: Path, replaced: str = "") -> None:
        """Say how many images are in `out`, and what they have `replaced`; where some were skipped, raise UserError."""
        count, skipped = len(self.files), len(self._broken)
        if skipped:
            left = f"{out} has the other {count - skipped}{replaced}"
            raise UserError(f"skipped {skipped} of {counted(count, 'image')} as broken: {left}")
        print(f"{counted(count, 'image')} in {out}{replaced}")


def check_labelled(model: StoredModel, label: str | None, by_folder: bool = False) -> None:
    """Ask for labels where the run needs some, and none are given."""
    if model.class_names and label is None and not by_folder:
        raise UserError(
            f"{model.run.path} is conditional, so it needs the class of each image: give --label NAME, the class of "
            f"all, or to vae-encode and vae-reconstruct --labels {FOLDERS}, where each lies in a folder of its class's "
            "name"
        )


def encode(
    run: Path, images: Path, out: Path, draws: int, seed: int, labelling: Labelling, trust: Sequence[str]
) -> None:
    """Write what images are encoded to: the means of their posteriors, and so many draws of each.

    An .npz has `names [n]`, `means [n, latent]`, `draws [n, draws, latent]` where there are any, `codes [n, positions]`
    of a run with codes, `labels [n]` of a conditional one, and `latent_shape`, the shape of one z as the decoder is
    given it. A .csv has the same in columns, a line an image.

    Raises:
        UserError: `run` is no finished run, there is no image, labels are missing, or `out` cannot be written; or, when
            all else is done, some images were broken.
    """
    kind = out.suffix.lower()
    if kind not in (".npz", ".csv"):
        raise UserError(f"--out {out}: the name must end in .npz (arrays) or .csv (a table)")
    replaced = check_writable(out)
    model = StoredModel.open(run, trust)
    found = OwnImages(images, model, labelling)
    generator = np.random.default_rng(seed)

    def encoded() -> Iterator[tuple[Batch, Latents]]:
        for batch in found.batches("Encoding images"):
            yield batch, model.encode(batch.pixels, batch.labels, draws, generator)

    if kind == ".csv":
        _write_table(out, encoded())
    else:
        name_type = f"U{max(map(len, found.names))}"
        with GrowingArrays(out) as arrays:
            for batch, latents in encoded():
                arrays.append("names", np.array(batch.names, name_type))
                if batch.labels is not None:
                    arrays.append("labels", batch.labels)
                for name, values in latents._asdict().items():
                    if values is not None:
                        arrays.append(name, values)
            arrays.save(latent_shape=np.array(model.autoencoder.latent_shape))
    found.finish(out, replaced)


def _write_table(out: Path, encoded: Iterator[tuple[Batch, Latents]]) -> None:
    """Write a line for each image: its name, and the numbers of its arrays, in columns named by their places."""
    with replacing(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        has_heading = False
        for batch, latents in encoded:
            arrays = {"label": batch.labels, "mean": latents.means, "code": latents.codes, "draw": latents.draws}
            there = {name: array for name, array in arrays.items() if array is not None}
            if not has_heading:
                columns = ["_".join(map(str, (name, *p))) for name, a in there.items() for p in np.ndindex(a.shape[1:])]
                writer.writerow(["name", *columns])
                has_heading = True
            for index, name in enumerate(batch.names):
                values = [value for array in there.values() for value in array[index].ravel()]
                writer.writerow([no_formula(name), *map(str, values)])


def reconstruct(run: Path, images: Path, out: Path, labelling: Labelling, trust: Sequence[str]) -> None:
    """Write a .png of the reconstruction of each image into a new folder, in sub-folders and by names like its own.

    Raises:
        UserError: `run` is no finished run, there is no image, labels are missing, or `out` is there already, or cannot
            be written; or, when all else is done, some images were broken.
    """
    folder = Path(os.path.abspath(out))  # noqa: PTH100 (keeps links)
    _check_new(out, folder, images)
    model = StoredModel.open(run, trust)
    found = OwnImages(images, model, labelling)
    counts = Counter(map(_png, found.names))
    if twice := next((name for name in found.names if counts[_png(name)] > 1), None):
        raise UserError(f"{images}: the reconstruction of {twice} would be {_png(twice)}, as another's: rename one")
    with filling(folder) as part:
        for batch in found.batches("Reconstructing images"):
            means = model.encode(batch.pixels, batch.labels).means
            for name, pixels in zip(batch.names, model.decode(means, batch.labels), strict=True):
                file = part / _png(name)
                file.parent.mkdir(parents=True, exist_ok=True)
                picture_of(pixels).save(file, "PNG", compress_level=COMPRESSION)
    found.finish(out)


def _png(name: str) -> str:
    """Return the name of an image's reconstruction: its own, with .png behind it where it has another ending."""
    return name if name.lower().endswith(".png") else f"{name}.png"


def _check_new(out: Path, folder: Path, images: Path) -> None:
    """Refuse a folder with something in it, or one among the images, with which it would be read the next time."""
    if folder.resolve().is_relative_to(images.resolve()):
        raise UserError(f"--out {out} is in {images}, whose images would be mixed with it: give a folder outside")
    if not folder.exists():
        check_writable(folder)
    elif folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"--out {out} is there already, and not an empty folder: give a new one")
