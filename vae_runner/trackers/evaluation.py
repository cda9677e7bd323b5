"""Where the results of an evaluation go: `evaluation/` of the run's directory, and the terminal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vae_runner.config.keys import Content
from vae_runner.evaluation.evaluate import Metric, Report, measured, settings_of
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject
from vae_runner.figures.evaluation import figures_of
from vae_runner.runtime.console import console, plain
from vae_runner.storage.run_directory import RunDirectory

Entries = Mapping[str, Content]  # of metrics in metrics.json, by name


def is_kept(metric: Metric, config: EvaluationConfig, kept: Entries) -> bool:
    """Return whether an entry is that of a metric as it is asked for; one that could not be measured is tried again."""
    entry = kept.get(metric.name, {"refused": ""})
    return "refused" not in entry and entry.get("settings") == settings_of(metric, config, scalars(kept))


def measure(
    subject: Subject,
    metrics: Sequence[Metric],
    directory: RunDirectory,
    weights_digest: str,
    *,
    anew: Collection[str] = (),
) -> Entries:
    """Measure metrics, one after the other, and keep each in the run's directory; return all entries that it has then.

    The subject has weights of this digest. What is there already is measured `anew` in these groups only. An
    interruption loses the metric under way only.
    """
    kept: Entries = directory.evaluation
    for metric in metrics:
        if metric.group not in anew and is_kept(metric, subject.config, kept):
            continue
        subject.found = scalars(kept)
        with _progress(metric.name.replace("_", " ")) as report:
            result = measured(subject, metric, report)
        figures = figures_of(result.found.pictured, subject.dataset)
        kept = directory.save_evaluation({metric.name: result.content}, weights_digest, result.found.arrays, figures)
    return kept


def scalars(entries: Entries) -> dict[str, float]:
    """Return all values of metrics, by name."""
    return {name: value for entry in entries.values() for name, value in entry.get("values", {}).items()}


def show(entries: Entries, metrics: Sequence[Metric]) -> None:
    """Print a table of what metrics have found, and below it what is to be known of that, or why there is nothing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "left", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    notes: list[str] = []
    group = ""
    for metric in metrics:
        entry = entries[metric.name]
        for name, value in entry.get("values", {}).items():
            error = entry["standard_errors"].get(name)
            heading, group = metric.group if metric.group != group else "", metric.group
            table.add_row(heading, plain(name), f"{value:.4g}", "" if error is None else f"± {error:.2g}")
        notes += entry.get("notes", ())
    console.print(table)
    refusals: dict[str, list[str]] = {}
    for metric in metrics:
        if "refused" in entries[metric.name]:
            refusals.setdefault(entries[metric.name]["refused"], []).append(metric.name)
    for line in (*dict.fromkeys(notes), *(f"Not measured: {', '.join(of)}: {why}" for why, of in refusals.items())):
        console.print(plain(line), soft_wrap=True)


@contextmanager
def _progress(what: str) -> Iterator[Report]:
    """Show a bar on a terminal; yield what moves it: the fraction that is done."""
    with Progress(
        TextColumn(what), BarColumn(bar_width=None), TimeRemainingColumn(), TextColumn("left"),
        console=console, disable=not console.is_terminal, transient=True, expand=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=1)
        yield lambda done: bar.update(task, completed=done)
