"""Published figures, each by one command: `python -m benchmarks.reproduction --list · NAME … · --all`.

`benchmarks/reproduction.yaml` says of every recipe in `conf/experiment/reproduce/` what was published and where, and
the band in which ours should be, which is written down before the run. A row is run by the installed commands: `vae-
run`, a sweep over its seeds, and `vae-evaluate` of each run, with the row's number of importance samples. What is
finished with the same configuration is not run or measured again, and what was interrupted goes on. `--page` takes the
figures of the runs in `--out` over into `benchmarks/reproduction.csv`, which collects those of several machines, and
writes docs/reproduction.md from it.
"""

import argparse
import csv
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from vae_runner.config.composition import content_of
from vae_runner.config.fingerprint import computed_settings, not_computed
from vae_runner.config.keys import leaves
from vae_runner.schema import register_schemas
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory

ROWS_FILE = Path(__file__).with_suffix(".yaml")
RESULTS_FILE = Path(__file__).with_suffix(".csv")
EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment"
PAGE = Path(__file__).parents[1] / "docs" / "reproduction.md"
COMMANDS = Path(sys.executable).parent
WITHOUT_KEY = {"posterior.scale": 1.0}  # as runs that have no such key computed; its default now is another
TEST_IMAGES = 10_000  # of MNIST: a part of them has another mean, by up to a nat

Band = tuple[float, float]


@dataclass(frozen=True)
class Value:
    """A figure of a row: what was published, and the band in which ours should be, of either variant."""

    published: float | None
    bands: Mapping[bool, Band | None]  # by whether the variant is short


@dataclass(frozen=True)
class Row:
    """What the registry says of a recipe."""

    name: str
    method: str
    source: str
    values: Mapping[str, Value]  # by metric
    experiment: str
    samples: int | None = None  # importance samples of an image
    evaluation: Sequence[str] = ()  # the overrides of vae-evaluate, where the metric is of it
    short: Sequence[str] | None = None  # the overrides of the short variant
    costs: str = ""  # what that variant is expected to cost
    note: str = ""

    def variants(self) -> list["Variant"]:
        """Return the full recipe, and the short one if there is one."""
        return [Variant(self, is_short) for is_short in ((False,) if self.short is None else (False, True))]


@dataclass(frozen=True)
class Variant:
    """A row as it is run: in full, or short."""

    row: Row
    is_short: bool

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return f"{self.row.name}-short" if self.is_short else self.row.name

    @property
    def overrides(self) -> list[str]:
        """Return what `vae-run` is given."""
        return [f"experiment={self.row.experiment}", *((self.row.short or ()) if self.is_short else ())]

    @property
    def command(self) -> str:
        """Return the command of one run, as a user types it."""
        return " ".join(["vae-run", *(f"'{key}'" if "[" in key else key for key in self.overrides)])

    @property
    def recipe(self) -> str:
        """Return a hash of what its files and overrides say, comments aside: results of another recipe are void."""
        said: list[object] = [self.overrides]
        files = [self.row.experiment]
        while files:
            content = yaml.safe_load((EXPERIMENTS / f"{files.pop()}.yaml").read_text())
            said.append(content)
            bases = [base for base in content.get("defaults", []) if isinstance(base, str)]
            files += [base.removeprefix("/experiment/") for base in bases if base.startswith("/experiment/")]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def composed(self) -> DictConfig:
        """Return its configuration."""
        register_schemas()
        with initialize_config_module("vae_runner.conf", version_base="1.3"):
            return compose("config", self.overrides)

    def finished(self, out: Path) -> dict[int, StoredRun]:
        """Return the finished runs in a folder that have this configuration, by seed.

        A key that a run does not know is newer than the run. Its default computes what was computed without it, but for
        the keys in WITHOUT_KEY.
        """
        sweep = SweepDirectory(out / self.name)
        runs = [StoredRun(run.path) for run in sweep.runs if run.status == "finished"] if sweep.exists else []
        wanted = computed(self.composed()) if runs else {}
        found = {}
        for run in runs:
            config = run.config
            known = {**{key: value for key, value in WITHOUT_KEY.items() if key in wanted}, **computed(config)}
            if all(key in wanted and wanted[key] == value for key, value in known.items()):
                found[int(config.seed)] = run
        return dict(sorted(found.items()))


def computed(config: DictConfig) -> dict[str, object]:
    """Return the keys that decide what a run computes, but for its seed and its device."""
    content = content_of(config)
    return computed_settings(dict(leaves(content)), (*not_computed(content), "seed"))


def read_rows(file: Path = ROWS_FILE) -> dict[str, Row]:
    """Return the rows of the registry, by name.

    Raises:
        TypeError: a row has a key that there is not.
    """

    def band(limits: Sequence[float] | None) -> Band | None:
        return None if limits is None else (float(limits[0]), float(limits[1]))

    def row(name: str, *, values: Mapping[str, Mapping[str, Any]], **keys: Any) -> Row:
        made = {
            metric: Value(of["published"], {False: band(of["band"]), True: band(of.get("short"))})
            for metric, of in values.items()
        }
        return Row(name, values=made, **{"experiment": f"reproduce/{name}", **keys})

    return {name: row(name, **keys) for name, keys in yaml.safe_load(file.read_text()).items()}


# --- running -----------------------------------------------------------------------------------------------------


def run(variant: Variant, seeds: Sequence[int], out: Path) -> None:
    """Train what is not finished of a variant's runs, and measure what is not measured.

    Raises:
        CalledProcessError: a command failed; it has said why.
    """
    missing = [seed for seed in seeds if seed not in variant.finished(out)]
    if missing:
        given = ",".join(map(str, missing))
        call("vae-run", "-m", *variant.overrides, f"seed={given}", "figures=none", f"sweep.dir={out / variant.name}")
    if overrides := evaluation(variant.row):
        for stored in variant.finished(out).values():
            call("vae-evaluate", stored.path, *overrides)


def evaluation(row: Row) -> list[str]:
    """Return what `vae-evaluate` is given for a row; nothing where its metrics are of the training itself."""
    if row.samples is None:
        return list(row.evaluation)
    keys = {"samples": row.samples, "images": TEST_IMAGES}
    return ["evaluation=likelihood", *(f"evaluation.likelihood.{key}={value}" for key, value in keys.items())]


def call(name: str, *arguments: object) -> None:
    """Run an installed command."""
    subprocess.run([COMMANDS / name, *map(str, arguments)], check=True)


# --- what came of it ---------------------------------------------------------------------------------------------


def kmeans_accuracy(run: StoredRun) -> float:
    """Return the share of test images in the cluster that stands for their class, in %.

    k-means, with a cluster a class, of the posterior means; the clusters are matched with the classes one to one.
    """
    means, labels = run.embeddings
    assert labels is not None
    count = int(labels.max()) + 1
    clusters = KMeans(count, n_init=10, random_state=0).fit_predict(means)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (clusters, labels), 1)
    return 100 * float(table[linear_sum_assignment(table, maximize=True)].sum() / len(labels))


def negative_log_likelihood(run: StoredRun) -> float | None:
    """Return −log p(x) in nats, by importance sampling; None where it has not been measured."""
    measured = run.evaluated.get("evaluation/log_likelihood")
    return None if measured is None else -measured


OWN: Mapping[str, Callable[[StoredRun], float | None]] = {
    "kmeans_accuracy": kmeans_accuracy,
    "nll": negative_log_likelihood,
}


def measured(run: StoredRun, metric: str, row: Row) -> float | None:
    """Return a run's value of a metric; None where it has not been measured as the row wants it."""
    if row.samples is not None:
        settings = run.evaluation.get("importance_sampling", {}).get("settings", {}).get("likelihood", {})
        if (settings.get("samples"), settings.get("images")) != (row.samples, TEST_IMAGES):
            return None
    if metric in OWN:
        return OWN[metric](run)
    return run.evaluated.get(metric, run.info["metrics"].get(metric))


def verdict(found: Sequence[float], band: Band | None) -> str:
    """Return how the mean of what was found lies to the band."""
    if band is None:
        return "no band"
    low, high = band
    mean = statistics.fmean(found)
    return "in the band" if low <= mean <= high else f"**{'below' if mean < low else 'above'} the band**"


@dataclass(frozen=True)
class Result:
    """A figure of a run: a line of reproduction.csv, whose columns these are."""

    name: str  # of the variant
    recipe: str
    seed: int
    metric: str
    value: float
    hours: float  # of training
    device: str


def results_of(variant: Variant, out: Path) -> Iterator[Result]:
    """Yield what has been measured of the finished runs of a variant in a folder."""
    for seed, run in variant.finished(out).items():
        hours = run.info.get("seconds", 0.0) / 3600
        for metric in variant.row.values:
            value = measured(run, metric, variant.row)
            if value is not None:
                yield Result(
                    variant.name, variant.recipe, seed, metric, round(value, 4), round(hours, 4), device_of(run)
                )


def device_of(run: StoredRun) -> str:
    """Return what a run was trained on: a GPU by its name, or the number of CPU cores."""
    hardware = run.info["hardware"]
    return ", ".join(hardware["gpus"]) or f"{hardware['cores']} cores"


def read_results(file: Path) -> list[Result]:
    """Return the results that have been collected; none where there is no such file."""
    if not file.exists():
        return []
    kinds = {field.name: field.type for field in fields(Result)}
    with file.open(newline="") as lines:
        return [
            Result(**{key: kinds[key](value) for key, value in line.items()})  # type: ignore[operator]
            for line in csv.DictReader(lines)
        ]


def collect(variants: Sequence[Variant], out: Path, file: Path) -> list[Result]:
    """Take the results in a folder over into a file, in place of earlier ones of the same run; return all of them."""

    def key(result: Result) -> tuple[object, ...]:
        return names.index(result.name), result.metric, result.seed

    names = [variant.name for variant in variants]
    recipes = {variant.name: variant.recipe for variant in variants}
    kept = [result for result in read_results(file) if recipes.get(result.name) == result.recipe]
    found = [result for variant in variants for result in results_of(variant, out)]
    results = list({key(result): result for result in kept + found}.values())
    results.sort(key=key)
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, [field.name for field in fields(Result)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, results))
    return results


def lines_of(variant: Variant, results: Sequence[Result]) -> Iterator[list[str]]:
    """Yield the cells of the table's lines for a variant: one for each of its metrics."""
    row = variant.row
    for metric, value in row.values.items():
        own = [result for result in results if (result.name, result.metric) == (variant.name, metric)]
        found = [result.value for result in own]
        band = value.bands[variant.is_short]
        yield [
            f"{row.method}{', short' if variant.is_short else ''}",
            metric,
            row.source,
            "–" if value.published is None else f"{value.published:g}",
            "–" if band is None else f"{band[0]:g} to {band[1]:g}",
            spread(found) if found else NOT_RUN,
            verdict(found, band) if found else "",
            f"{row.samples:,}" if row.samples and metric in OF_SAMPLES else "–",
            f"{statistics.fmean(result.hours for result in own):.2f}" if own else "",
            ", ".join(sorted({result.device for result in own})),
            f"`{variant.command}`",
        ]


def spread(found: Sequence[float]) -> str:
    """Return the mean over seeds, and the lowest and the highest where there are several."""
    mean = f"{statistics.fmean(found):.2f}"
    return (
        f"{mean} (1 seed)" if len(found) == 1 else f"{mean} ({min(found):.2f} to {max(found):.2f}, {len(found)} seeds)"
    )


NOT_RUN = "not run"
OF_SAMPLES = ("nll", "evaluation/log_likelihood")  # metrics that are measured by importance samples
COLUMNS = (
    "row", "metric", "source", "published", "band", "ours", "", "importance samples", "hours a seed", "on", "command",
)  # fmt: skip
OURS = COLUMNS.index("ours")
HEAD = """\
# Published figures

What papers and other repositories report, and what the same recipe gives here. The page is written by a command, which
collects the figures of run directories in `benchmarks/reproduction.csv`; a note says which are of an earlier page:

```
python -m benchmarks.reproduction --list
python -m benchmarks.reproduction ppca_digits --seeds 0,1,2
python -m benchmarks.reproduction --all --short --page
```

The recipe of a row is `conf/experiment/reproduce/NAME.yaml`: network, data, optimizer, schedule and epochs as its
source has them, which a comment names; what differs is said there and below. `benchmarks/reproduction.yaml` has what
was published, and the band in which ours should be. A band is our judgement, written down before the run but where a
note says otherwise. A row outside its band stays; where a recipe was changed after its first run, its note says
so, with the first figure. The command of a row trains its recipe with seed 0; the second of the commands above trains a
row with more seeds, and measures what the row is about. What is finished is not repeated, and what was interrupted goes
on.

- *published* is – where there is no figure, or no source of it could be read. The band is our expectation then, or is
  around an earlier run of ours: to be in it reproduces nothing.
- *nll* estimates −log p(x) in nats an image: the mean over all 10,000 test images, with so many importance samples of
  each. It is above −log p(x) in expectation; lower is better. `evaluation/log_likelihood` is the same with the other
  sign: higher is better. Figures of a fixed and of a new binarisation, of a bound and of an estimate, are not
  comparable with each other.
- *short* is a recipe of fewer steps, for most that take more than an hour on two cores. Its command has all that is
  changed: epochs, and with some the batch size, the learning rate, the schedule and warm-ups.
- *ours* is the mean over seeds, with the lowest and the highest.
- First weights are Keras's in all rows (Glorot & Bengio, 2010, and biases of 0); those of PyTorch, which some sources
  have, differ.
- *hours* are those of training a seed, on two cores (AMD EPYC) or a GPU that were shared with other work: an upper
  limit. On the GPU products of matrices are rounded to TensorFloat-32, which is `vae-run`'s default there; all else is
  float32. TensorFlow was 2.21.0 and Keras 3.15.1. The nll of runs that a GPU trained was measured on two cores.
- The fixed binarisation of MNIST that papers have is a file (Larochelle & Murray, 2011). A draw with the same
  probabilities, which is made once, stands in for it: these rows have other images of the same distribution.
"""


def page(rows: Mapping[str, Row], results: Sequence[Result]) -> str:
    """Return the page: a table of what has been run, one of what has not, and what is to be known of each row."""
    lines = [line for row in rows.values() for variant in row.variants() for line in lines_of(variant, results)]
    run = [line for line in lines if line[OURS] != NOT_RUN]
    notes = [
        f"- **{row.method}** ({row.name}): {' '.join(filter(None, [row.note, row.costs and f'Short: {row.costs}']))}"
        for row in rows.values()
        if row.note or row.costs
    ]
    return "\n".join(
        [
            HEAD,
            *("## What has been run", "", *table(run), ""),
            *("## What has not been run", "", *table([line for line in lines if line not in run]), ""),
            *("## What is to be known of a row", "", *notes, ""),
        ]
    )


def table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return [f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *lines)]


def main() -> None:
    """List the rows, run some, or write the page."""
    rows = read_rows()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to run")
    parser.add_argument("--all", action="store_true", help="run all rows")
    parser.add_argument("--list", action="store_true", help="print the rows")
    parser.add_argument("--seeds", default="0", help="a run with each: 0,1,2 (0)")
    parser.add_argument("--short", action="store_true", help="the short variant, of rows that have one")
    parser.add_argument("--out", type=Path, default=Path("outputs/reproduction"), help="where runs are (%(default)s)")
    help_ = "collect the results of the runs in --out here (benchmarks/reproduction.csv)"
    parser.add_argument("--results", type=Path, default=RESULTS_FILE, metavar="FILE", help=help_)
    help_ = "collect the results, and write the page (docs/reproduction.md)"
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, metavar="FILE", help=help_)
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in rows]:
        parser.error(f"there is no row {unknown[0]}; --list prints them")
    if given.list:
        for row in rows.values():
            published = ", ".join(
                f"{metric} {'–' if of.published is None else of.published}" for metric, of in row.values.items()
            )
            print(f"{row.name:<26} {row.method}: {published}{'; has a short variant' if row.short is not None else ''}")
    variants = [variant for row in rows.values() for variant in row.variants()]

    def write_page() -> None:
        if given.page:
            given.page.write_text(page(rows, collect(variants, given.out, given.results)))

    write_page()
    for name in rows if given.all else given.names:
        variant = rows[name].variants()[-1 if given.short else 0]
        run(variant, [int(seed) for seed in given.seeds.split(",")], given.out)
        for line in lines_of(variant, list(results_of(variant, given.out))):
            print(
                f"{variant.name}: {line[1]}: published {line[3]}, band {line[4]}, ours {line[5]} {line[6]}", flush=True
            )
        write_page()


if __name__ == "__main__":
    sys.exit(main())
