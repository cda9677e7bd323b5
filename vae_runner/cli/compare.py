"""`vae-compare`: finished runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from rich.table import Table

from vae_runner.config.choices import part_name
from vae_runner.errors import DAMAGED, UserError, counted
from vae_runner.evaluation.embeddings import decode, reconstruct
from vae_runner.experiment import load
from vae_runner.figures.comparison import Compared, comparison, in_order
from vae_runner.files.atomic import check_writable, write_atomic
from vae_runner.files.csv_table import csv_table
from vae_runner.files.untrusted import is_file, readable
from vae_runner.runtime.console import console, plain
from vae_runner.storage.pictures import save_figure
from vae_runner.storage.run_info import CHOICES, run_metrics
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.noise import NumpyNoise

SHOWN_PARTS = ("dataset", "model", "posterior", "prior", "likelihood", "loss", "optimizer", "schedule")
ABOUT = ("run", *SHOWN_PARTS, "latent", "seed", "epoch")  # the first columns of the table
SHOWN_IMAGES = 8
SAMPLES = 32
SEED = 0  # of the samples: every run decodes the same draws, as far as its latent space has their dimensions

Row = dict[str, Any]  # of the table, by column: texts and numbers


def compare(paths: Sequence[Path], out: Path, trust: Sequence[str]) -> None:
    """Draw the runs into `out` and write their metrics, as a table to the terminal and as CSV next to the picture.

    Raises:
        UserError: one of `paths` is no finished run, the runs are of different images, or `out` cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the name must end in .png")
    replaced = check_writable(out)
    table_file = out.with_suffix(".csv")
    _check_is_ours(table_file)
    runs = [StoredRun.open_finished(path) for path in paths]
    images, count, label_names = runs[0].test_images
    for run in runs[1:]:
        others, other_count, _ = run.test_images
        if other_count != count or not np.array_equal(others, images):
            raise UserError(
                f"{run.path} and {runs[0].path} have other test images: compare runs of the same dataset, with the "
                "same dataset.limit, dataset.test_fraction, dataset.binarize and image size"
            )
    rows = _table(runs)
    compared = [_compared(run, row, images, trust) for run, row in zip(runs, rows, strict=True)]
    save_figure(comparison(images[:SHOWN_IMAGES], label_names, compared), out)
    write_atomic(table_file, csv_table(rows))
    _print(rows)
    print(f"{counted(len(runs), 'run')} in {out}, the metrics in {table_file}{replaced}")


def _check_is_ours(table_file: Path) -> None:
    """Refuse to replace a table that this command has not written: nobody has named it."""
    start = ",".join(ABOUT).encode()
    if is_file(table_file):
        with readable(table_file), table_file.open("rb") as file:
            found = file.read(len(start))
        if found not in (b"", start):
            raise UserError(
                f"{table_file} is in the way of the metrics, and no table of vae-compare's: give another --out"
            )


def _compared(run: StoredRun, row: Row, images: NDArray[np.uint8], trust: Sequence[str]) -> Compared:
    """Return what is drawn of a run, with reconstructions of the first of these `images`."""
    autoencoder = load(run, trust)
    if images.shape[1:] != autoencoder.image_shape:
        raise UserError(
            f"{run.path} has test images of {images.shape[1:]} and networks for {autoencoder.image_shape}: {DAMAGED}"
        )
    mean, labels = run.embeddings
    shown, of_shown, of_samples = images[:SHOWN_IMAGES], None, None
    if autoencoder.classes:
        if labels is None or len(labels) < len(shown) or not 0 <= labels.min() <= labels.max() < autoencoder.classes:
            raise UserError(f"{run.path} has networks that take labels, and no such labels of its images: {DAMAGED}")
        of_shown, of_samples = labels[: len(shown)], np.sort(np.arange(SAMPLES) % autoencoder.classes)
    noise = NumpyNoise(np.random.default_rng(SEED), SAMPLES, np.float32)
    z = np.asarray(autoencoder.latent_prior(of_samples).sample(noise))
    reconstructions, samples = reconstruct(autoencoder, shown, of_shown), decode(autoencoder, z, of_samples)
    if not (np.isfinite(reconstructions).all() and np.isfinite(samples).all()):
        raise UserError(f"{run.path} makes images of values that are not finite: its weights are NaN, or far too large")
    latent = autoencoder.latent_size if autoencoder.is_spatial else f"{row['latent']}-D"
    return Compared(
        name=row["run"],
        about=f"{row['loss']}, {latent}, test loss {row['test/loss']:.2f}",
        embeddings=mean,
        labels=labels,
        reconstructions=reconstructions,
        samples=samples,
        prior=autoencoder.prior.symbol,
        metrics=run_metrics(run.info),
    )


def _table(runs: Sequence[StoredRun]) -> list[Row]:
    """Return one row a run: what it is, and its final metrics; the same columns in every row."""
    rows: list[Row] = []
    for run in runs:
        config, info = run.config, run.info
        chosen = info.get(CHOICES, {})
        parts = {part: part_name(part, OmegaConf.select(config, f"{part}._target_"), chosen) for part in SHOWN_PARTS}
        about = {"run": str(run.path), **parts, "latent": config.get("latent"), "seed": config.get("seed")}
        rows.append({**about, "epoch": run.models_epoch, **run_metrics(info), **run.evaluated})
    columns = [*ABOUT, *in_order(name for row in rows for name in row if name not in ABOUT)]
    return [{key: row.get(key, "") for key in columns} for row in rows]


def _print(rows: Sequence[Row]) -> None:
    """Print the metrics, one column a run, under its name, or a number where names are too long for the terminal."""
    names = [str(row["run"]) for row in rows]
    if max(map(len, names)) * len(names) > console.width / 2:
        for number, name in enumerate(names, 1):
            console.print(plain(f"{number}  {name}"), soft_wrap=True)
        names = [str(number) for number in range(1, len(rows) + 1)]
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(plain(name), justify="right", overflow="fold")
    for key in list(rows[0])[1:]:
        values = (f"{row[key]:.4g}" if isinstance(row[key], float) else row[key] for row in rows)
        table.add_row(plain(key), *map(plain, values))
    console.print(table)
