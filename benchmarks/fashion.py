"""Twelve methods side by side on Fashion-MNIST, as a page: `python -m benchmarks.fashion SWEEP`.

The page, docs/fashion.md, shows the command of the sweep. The sweep's directory has a table of the means over seeds,
which is kept as `benchmarks/fashion.csv`; without SWEEP the page is written from that file.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_runner.sweeps.directory import SweepDirectory

RESULTS_FILE = Path(__file__).with_suffix(".csv")
PAGE = Path(__file__).parents[1] / "docs" / "fashion.md"
METHODS = (
    "ae", "vae", "beta_vae", "beta_tcvae", "factor_vae", "dip_vae_i", "info_vae", "wae_mmd", "iwae", "vampprior",
    "iaf_vae", "hyperspherical_vae",
)  # fmt: skip
SEEDS = 3
OVERRIDES = ("experiment=compare_fashion", "seed=0,1,2", "figures=none", f"method={','.join(METHODS)}")
PICTURE = "vae-compare SWEEP/method_{vae,iwae,vampprior,iaf_vae,hyperspherical_vae,info_vae}-seed_0* --out methods.png"
FREE = ("figures", "hydra", "sweep")  # the overrides that change no result

Row = dict[str, str]  # of the sweep's table, by its columns


@dataclass(frozen=True)
class Column:
    """A metric as a column of the page."""

    title: str
    metric: str
    scale: float = 1.0
    digits: int = 1
    reference: str = ""  # the metric of what the others are to be read by

    def number(self, value: str) -> str:
        """Return a value of the table as the page has it; "–" where nothing was measured."""
        return f"{float(value) * self.scale:,.{self.digits}f}" if value else "–"

    def cell(self, row: Row) -> str:
        """Return the mean over seeds, and the standard deviation."""
        mean, deviation = row.get(self.metric, ""), row.get(f"{self.metric} std", "")
        return f"{self.number(mean)} ± {self.number(deviation)}" if deviation else self.number(mean)


def _of_samples(title: str, name: str, scale: float = 1.0) -> Column:
    metric = f"evaluation/{name}[classifier"
    return Column(title, f"{metric}]", scale, reference=f"{metric}, real]")


def _of_probe(title: str, name: str) -> Column:
    metric = f"evaluation/{name}"
    return Column(title, metric, scale=100, reference=f"{metric}[pixels]")


COLUMNS = (
    Column("IWAE bound, K = 100, nats ↑", "evaluation/log_likelihood"),
    Column("MSE × 1000 ↓", "evaluation/mse", scale=1000, digits=2),
    _of_probe("linear probe, % ↑", "linear_probe"),
    _of_probe("5-NN probe, % ↑", "knn_probe"),
    _of_samples("Fréchet distance ↓", "frechet_distance"),
    _of_samples("precision, % ↑", "precision", scale=100),
    _of_samples("recall, % ↑", "recall", scale=100),
)

HEAD = f"""\
# Twelve methods on Fashion-MNIST

We found no published table that compares these methods on Fashion-MNIST with the same encoder, decoder and epochs. This
one is made by the sweep below, which `sweep=resume` continues where it was stopped, and by
`python -m benchmarks.fashion SWEEP`:

```
vae-run -m {" ".join(OVERRIDES[:-1])} \\
    {OVERRIDES[-1]}
```

`conf/experiment/compare_fashion.yaml` has networks and budget: four convolutions of 16 filters with batch normalisation
in the encoder, four in the decoder, 16 latent dimensions, five epochs with batches of 128, and Adam with a learning
rate that rises to 0.001 in half an epoch and falls along a cosine. The likelihood is a Gaussian with a learned σ on
pixels in [0, 1]. All else is what the method's preset says. The runs were made on two cores (AMD EPYC), in float32,
with TensorFlow 2.21.0 and Keras 3.15.1.

Means over three seeds, with the standard deviation (n − 1). Arrows point to the better.

"""

NOTES = f"""
- *IWAE bound*: a lower bound on log p(x) with 100 importance samples of each of 1,000 test images. It is a density:
  higher is better. `ae` and `wae_mmd` have no density q(z|x).
- *MSE*: the mean squared error of reconstructions of all 10,000 test images.
- *Probes* tell the ten classes from the posterior's mean, learnt from 10,000 training images: a linear one, and one of
  five nearest neighbours.
- *Fréchet distance*, *precision* and *recall* compare 5,000 samples of the prior with 5,000 test images, in the
  features of a classifier that is trained for it, with the same weights in all runs. Those of other features or other
  numbers of images are not comparable. The samples of `ae` are of N(0, I), which it was not trained for.
- *real images* are what a column is to be read by: probes of pixels, and training images in place of samples.

Six of the runs, by `{PICTURE}`:

![Six methods: embeddings, reconstructions and samples](images/fashion_methods.png)

## What it shows

- The mean bounds of the inverse autoregressive flow (562.7), of importance weighting (559.1) and of the VAE (549.2) are
  in the order that papers report, but differ by about their standard deviations over seeds, 10 to 15. The
  VampPrior's (544.7) is below the VAE's, unlike in papers.
- Bounds and samples disagree: InfoVAE and the sphere have the lowest Fréchet distances and the lowest bounds.
- The VampPrior's samples have the highest precision. Measures of variety disagree about them: their recall is the
  lowest but for the autoencoder's, and their coverage, which `benchmarks/fashion.csv` has, is the highest (48.5 %; the
  VAE's 17.5 %).
- The linear probe of every code is below that of pixels, by 0.9 to 2.7 points. The probe of nearest neighbours of every
  code but `dip_vae_i`'s is above it, by 0.2 to 1.7 points.

## What it does not show

- Where training ends: five epochs are not enough for that, even for networks as small as these.
- log p(x): with an effective sample size between 1.1 and 2.0 of 100 the bounds are loose, and not all by as much.
- The best of a method: weights like β = 4, and those of discrepancies and correlations, are the presets', and were not
  tuned for these images. Batch normalisation mixes the five draws of each image in `iwae`'s decoder, which a run warns
  of.
- The same number of parameters, or the same time: 53,000 in a VAE, 40,000 where z is a point, 43,000 on the sphere,
  445,000 with pseudo-inputs, and 778,000 with flows; FactorVAE trains an opponent besides.
"""


def page(rows: Sequence[Row]) -> str:
    """Return the page: a line a method, and one of real images, from the rows of a sweep's table."""
    lines = [
        ["`method=`", *(column.title for column in COLUMNS)],
        ["---"] * (len(COLUMNS) + 1),
        *([f"`{row['method']}`", *(column.cell(row) for column in COLUMNS)] for row in rows),
        ["real images", *(column.number(rows[0][column.reference]) if column.reference else "" for column in COLUMNS)],
    ]
    return HEAD + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + NOTES


def read(file: Path) -> list[Row]:
    """Return the rows of the methods in a sweep's table, in the order of the page.

    Raises:
        SystemExit: a row is missing or twice there, or has not the page's number of seeds in each of its metrics.
    """
    with file.open(newline="") as lines:
        table = list(csv.DictReader(lines))
    rows = []
    for name in METHODS:
        own = [row for row in table if row.get("method") == name]
        counts = [row[key] for row in own for key in row if key == "n" or key.endswith(" n")]
        if len(own) != 1 or any(int(count or 0) not in (0, SEEDS) for count in counts) or own[0]["n"] != str(SEEDS):
            sys.exit(f"{file}: method={name} is to have one row, of {SEEDS} finished seeds in each metric")
        rows.append(own[0])
    return rows


def check(sweep: SweepDirectory) -> None:
    """Refuse a sweep that is another than the page's.

    Raises:
        SystemExit: its command is another, or there is no sweep.
    """
    if not sweep.exists:
        sys.exit(f"there is no sweep in {sweep.path}: give the directory that the sweep was run in")
    found = set(sweep.info.command)
    if other := sorted(key for key in found.symmetric_difference(OVERRIDES) if not key.startswith(FREE)):
        sys.exit(f"{sweep.path} is not the sweep that docs/fashion.md shows: {' '.join(other)}")


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sweep", nargs="?", type=Path, help="directory of the finished sweep, whose table is taken over"
    )
    given = parser.parse_args()
    if given.sweep:
        sweep = SweepDirectory(given.sweep)
        check(sweep)
        read(sweep.groups_file)
        shutil.copyfile(sweep.groups_file, RESULTS_FILE)
    PAGE.write_text(page(read(RESULTS_FILE)))


if __name__ == "__main__":
    main()
