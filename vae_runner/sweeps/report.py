"""The results of a sweep: a table on the terminal, sweep.csv, sweep_groups.csv, and sweep.html.

Runs that differ in their seeds alone are a group, of which there are means and standard deviations.
"""

import base64
import html
import io
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from string import Template
from urllib.parse import quote

import yaml
from PIL import Image
from rich.table import Table

from vae_runner.config.choices import GROUPS, named
from vae_runner.config.fingerprint import ID_CHARACTERS, NOT_COMPUTED
from vae_runner.errors import FormatError, UnreadableError, UserError, counted, printable
from vae_runner.files.atomic import write_atomic
from vae_runner.files.csv_table import csv_table
from vae_runner.files.untrusted import READERS_ERRORS, YAML_LOADER, DamagedError, reading
from vae_runner.storage.run_info import CHOICES, MAIN_METRIC, OUTDATED, PRUNED, run_metrics
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory, SweepInfo
from vae_runner.sweeps.values import in_order

SECONDS_BETWEEN = 5.0  # from one writing of the files to the next, at least;
TIMES_AS_LONG = 20  # and so many times the duration of the writing
THUMBNAIL = 240  # pixels
MAX_PIXELS = 50_000_000
SEED = "seed"
DEVIATION, NUMBER = " std", " n"  # after the name of a metric: its standard deviation, and of how many runs


@dataclass(frozen=True)
class Run:
    """What the report shows of a run."""

    name: str
    status: str
    config: Mapping[str, object]  # by dotted keys; a part's name in place of its _target_
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""
    pictures: Mapping[str, Path] = field(default_factory=dict)  # by what they show


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    settings: Mapping[str, object]  # what varies in the sweep, but for the seed
    runs: Sequence[Run]

    def values(self, metric: str) -> list[float]:
        """Return a metric of those of the runs that are finished and have it."""
        return [run.metrics[metric] for run in self.runs if run.status == "finished" and metric in run.metrics]

    def n(self, metric: str) -> int:
        """Return the number of the values of a metric."""
        return len(self.values(metric))

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric, None where there is no value of it."""
        return mean(values) if (values := self.values(metric)) else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation (n − 1) of a metric, None where there are less than two values of it."""
        return stdev(values) if len(values := self.values(metric)) > 1 else None


class Report:
    """Reads the runs of a sweep, and writes and shows their results."""

    def __init__(self, directory: SweepDirectory) -> None:
        self.runs: list[Run] = []
        self._directory = directory
        self._info = SweepInfo()
        # What was read of each run's config.yaml, by the run's name, with the file's digest.
        self._configs: dict[str, tuple[str, Mapping[str, object]]] = {}
        self._thumbnails: dict[tuple[Path, float], str] = {}  # by file and time
        self._seen: Mapping[str, tuple[int, int]] | None = None  # versions of the runs that the files are of
        self._next = 0.0

    def keep_current(self) -> None:
        """Write again if a run.json has changed, and the last writing is long enough ago."""
        if time.monotonic() < self._next:
            return
        now = self._directory.run_versions()
        start = time.monotonic()
        try:
            if now != self._seen:
                self.write()
                self._seen = now
        finally:  # A disk that is full is no reason to try more often.
            self._next = time.monotonic() + max(SECONDS_BETWEEN, TIMES_AS_LONG * (time.monotonic() - start))

    def write(self) -> None:
        """Read all runs, and replace the files of the report."""
        self._info = self._directory.info
        self.runs = [self._read(run) for run in self._directory.runs]
        if self._info.metric:
            self.runs = self._best_first()
        varied = self._varied()
        metrics = sorted(
            dict.fromkeys(name for run in self.runs for name in run.metrics), key=lambda name: name != self._metric
        )
        rows = [
            {
                "run": run.name,
                "status": run.status,
                "epoch": _or_empty(run.epoch),
                **{key: _or_empty(run.config.get(key)) for key in varied},
                **{name: _or_empty(run.metrics.get(name)) for name in metrics},
                "seconds": _or_empty(run.seconds),
                "error": run.error,
            }
            for run in self.runs
        ]
        write_atomic(self._directory.table_file, csv_table(rows or [{"run": ""}]))
        groups = self._groups(varied)
        lacking = {name for name in metrics for group in groups if group.n(name) != group.n(self._metric)}
        of_groups = [
            {
                **{key: _or_empty(value) for key, value in group.settings.items()},
                "n": group.n(self._metric),
                **{
                    f"{name}{what}": _or_empty(value)
                    for name in metrics
                    for what, value in (
                        *(("", group.mean(name)), (DEVIATION, group.deviation(name))),
                        *([(NUMBER, group.n(name))] if name in lacking else []),
                    )
                },
            }
            for group in groups
        ]
        write_atomic(self._directory.groups_file, csv_table(of_groups or [{"n": 0}]))
        write_atomic(self._directory.page_file, printable(self._page(varied, metrics)).encode())

    @property
    def _metric(self) -> str:
        """Return the metric that runs are compared by: that of a search, if it is one."""
        return self._info.metric or MAIN_METRIC

    def _best_first(self) -> list[Run]:
        """Return the runs by their metric, the best first: those that are not finished after those that are."""
        sign = -1 if self._info.highest else 1
        return sorted(
            self.runs, key=lambda run: (run.status != "finished", sign * run.metrics.get(self._metric, sign * math.inf))
        )

    def show(self) -> None:
        """Print the table of all runs, the best first."""
        from vae_runner.runtime.console import console, plain

        varied = self._varied()
        table = Table(box=None, pad_edge=False)
        for column in ("run", "status", *_short(varied), "epoch", self._metric):
            table.add_column(plain(column), overflow="fold")
        longest = max((len(run.name) for run in self.runs), default=0)
        for run in self._best_first():
            name = run.name if longest < console.width / 2 else f"…{run.name[-ID_CHARACTERS:]}"
            values = (run.status, *(run.config.get(key) for key in varied), run.epoch, run.metrics.get(self._metric))
            style = {"finished": "", PRUNED: "dim", "failed": "red"}.get(run.status, "yellow")
            table.add_row(plain(name), *(plain(_shown(value, 4)) for value in values), style=style)
        console.print(table)
        sign = -1 if self._info.highest else 1
        groups = sorted(
            self._groups(varied),
            key=lambda group: math.inf if (found := group.mean(self._metric)) is None else sign * found,
        )
        if SEED in varied and len(groups) < len(self.runs):
            table = Table(box=None, pad_edge=False, title="over the seeds", title_justify="left")
            for column in (*_short([key for key in varied if key != SEED]), "n", self._metric):
                table.add_column(plain(column), overflow="fold")
            for group in groups:
                values = (*group.settings.values(), group.n(self._metric), _spread(group, self._metric))
                table.add_row(*(plain(_shown(value, 4)) for value in values))
            console.print(table)
        console.print(plain(f"{counted(len(self.runs), 'run')}: {self._directory.page_file}"), soft_wrap=True)

    def _read(self, run: StoredRun) -> Run:
        name = run.path.name
        try:
            if run.path.is_symlink():
                raise UserError(f"{run.path} is a link: give the sweep that it leads to")
            info = StoredRun.open(run.path).info
            digest = run.check_config()
            if name not in self._configs or self._configs[name][0] != digest:
                text = run.config_text
                with reading():
                    content = yaml.load(text, Loader=YAML_LOADER)
                self._configs[name] = digest, named(content, info.get(CHOICES, {}), self._info.keys)
            metrics = run_metrics(info)
            seconds = metrics.pop("seconds", None)
            return Run(
                name, OUTDATED if OUTDATED in info else run.status, self._configs[name][1], info.get("epoch"),
                metrics | run.evaluated, seconds, info.get("error") or info.get(OUTDATED, ""), run.pictures,
            )  # fmt: skip
        except UnreadableError as error:
            return Run(name, "unreadable", {}, error=str(error))
        except FormatError as error:
            return Run(name, "unsupported", {}, error=str(error))
        except (UserError, DamagedError) as error:
            return Run(name, "damaged", {}, error=str(error))

    def _varied(self) -> list[str]:
        """Return the keys in which the runs differ, the swept ones first.

        A key whose value follows from a swept choice of a group (`model=mlp`) is left out, unless it is swept itself.
        """
        configs = [run.config for run in self.runs if run.config]
        keys = dict.fromkeys(key for config in configs for key in config)
        differing = [
            key
            for key in keys
            if not key.startswith(NOT_COMPUTED) and len({str(config.get(key)) for config in configs}) > 1
        ]
        swept = self._info.keys
        groups = [key for key in differing if key in swept and key in GROUPS]
        shown = [key for key in differing if key in swept or not any(_follows(key, group, configs) for group in groups)]
        return sorted(shown, key=lambda key: key not in swept)

    def _groups(self, varied: Sequence[str]) -> list[Group]:
        """Return the groups of runs that differ in their seeds alone, in the order of what varies else."""
        keys = [key for key in varied if key != SEED]
        members: dict[tuple[str, ...], list[Run]] = {}
        for run in self.runs:
            if run.config:
                members.setdefault(tuple(str(run.config.get(key)) for key in keys), []).append(run)
        groups = [Group({key: runs[0].config.get(key) for key in keys}, runs) for runs in members.values()]
        return sorted(groups, key=lambda group: [in_order(value) for value in group.settings.values()])

    # --- the page -------------------------------------------------------------------------------------------------

    def _page(self, varied: Sequence[str], metrics: Sequence[str]) -> str:
        template = Template(resources.files("vae_runner.sweeps").joinpath("page.html").read_text(encoding="utf-8"))
        counts = Counter(run.status for run in self.runs)
        groups = self._groups(varied)
        kinds = list(dict.fromkeys(kind for run in self.runs for kind in run.pictures))
        pictured = self.runs if self._info.metric else [run for group in groups for run in group.runs]
        figures = [figure for run in pictured if (figure := self._figure(run, varied))]
        return template.substitute(
            title=html.escape(str(self._directory.path)),
            command=html.escape("vae-run -m " + " ".join(self._info.command)),
            counts=html.escape(", ".join(f"{count} {status}" for status, count in sorted(counts.items()))),
            plots="\n".join(self._plots(varied)),
            groups=_table_of_groups(groups, metrics, self._metric)
            if SEED in varied and len(groups) < len(self.runs)
            else "",
            head=_head(["run", "status", *varied, "epoch"], [*metrics, "seconds"], self._metric),
            rows="\n".join(_row(run, varied, metrics, self._metric) for run in self.runs),
            order=f"The best comes first, by {html.escape(self._metric)}. " if self._info.metric else "",
            images=_gallery(kinds, figures) if figures else "",
        )

    def _plots(self, varied: Sequence[str]) -> Iterator[str]:
        """Yield a plot for each key that varies, coloured by the first other one: the metric of the finished runs."""
        finished = [run for run in self.runs if self._metric in run.metrics and run.status == "finished"]
        keys = [key for key in varied if key != SEED] or list(varied)
        if len(finished) < 2 or not keys:
            return
        from vae_runner.sweeps.plots import Point, metric_plot  # It imports Matplotlib, which takes a moment.

        for key in keys:
            other = next((name for name in keys if name != key), None)
            points = [
                Point(run.name, run.config.get(key), other and run.config.get(other), run.metrics[self._metric])
                for run in finished
            ]
            yield metric_plot(
                self._metric, key, other, points,
                of_search=bool(self._info.metric), logarithmic=key in self._info.logarithmic,
            )  # fmt: skip

    def _figure(self, run: Run, varied: Sequence[str]) -> str:
        """Return the pictures of a run, of which the page shows one kind, with what the run is and has come to."""
        images = "".join(
            f'<img class="{kind}" src="data:image/jpeg;base64,{thumbnail}" alt="{kind}">'
            for kind, picture in run.pictures.items()
            if (thumbnail := self._thumbnail(picture))
        )
        if not images:
            return ""
        said = [f"{word} {_shown(run.config.get(key))}" for key, word in zip(varied, _short(varied), strict=True)]
        if self._metric in run.metrics:
            said.append(f"{self._metric} {_shown(run.metrics[self._metric])}")
        caption = "<br>".join(map(html.escape, said))
        name = html.escape(run.name, quote=True)
        return f'<figure data-run="{name}"><a {_link(run)}>{images}</a><figcaption>{caption}</figcaption></figure>'

    def _thumbnail(self, picture: Path) -> str:
        try:
            key = (picture, picture.stat().st_mtime)
            if key not in self._thumbnails:
                self._thumbnails[key] = _small(picture)
        except (*READERS_ERRORS, SyntaxError, Image.DecompressionBombError):
            return ""
        return self._thumbnails[key]


def _head(columns: Sequence[str], metrics: Sequence[str], main: str) -> str:
    """Return the cells of a table's head, of which each sorts by its column."""
    cells = [("", column) for column in columns] + [(_hidden(name, main), name) for name in metrics]
    return "".join(f"<th{hidden}><button>{html.escape(name)}</button></th>" for hidden, name in cells)


def _hidden(metric: str, main: str) -> str:
    """Return the attribute of the cells that are shown when all metrics are asked for, beside the main one."""
    return "" if metric.startswith("test/") or metric == main else ' class="more"'


def _row(run: Run, varied: Sequence[str], metrics: Sequence[str], main: str) -> str:
    """Return a run's row; what it can be filtered by is its name, its status, and `key=value` of what varies."""
    words = [run.name, run.status, *(f"{key}={_shown(run.config.get(key))}" for key in varied)]
    title = f' title="{html.escape(run.error, quote=True)}"' if run.error else ""
    values = (*(run.config.get(key) for key in varied), run.epoch)
    cells = [
        f"<td><a {_link(run)}>{html.escape(run.name)}</a></td>",
        f'<td class="{html.escape(run.status, quote=True)}"{title}>{html.escape(run.status)}</td>',
        *(f"<td>{html.escape(_shown(value))}</td>" for value in values),
        *(f"<td{_hidden(name, main)}>{_shown(run.metrics.get(name))}</td>" for name in metrics),
        f"<td{_hidden('seconds', main)}>{_shown(run.seconds)}</td>",
    ]
    name, said = (html.escape(text, quote=True) for text in (run.name, "\n".join(words).lower()))
    return f'<tr data-run="{name}" data-words="{said}">{"".join(cells)}</tr>'


def _link(run: Run) -> str:
    return f'href="{quote(os.fsencode(run.name))}/"'


def _table_of_groups(groups: Sequence[Group], metrics: Sequence[str], main: str) -> str:
    """Return a table of means and standard deviations, with the settings of each group and its number of runs.

    What fewer or more of them have than the main metric has their number beside it.
    """
    rows = []
    for group in groups:
        settings = "".join(f"<td>{html.escape(_shown(value))}</td>" for value in group.settings.values())
        found = "".join(
            f'<td{_hidden(name, main)} data-value="{_or_empty(group.mean(name))}">{_spread(group, name)}'
            f"{'' if group.n(name) in (0, group.n(main)) else f' (n = {group.n(name)})'}</td>"
            for name in metrics
        )
        rows.append(f"<tr>{settings}<td>{group.n(main)}</td>{found}</tr>")
    head = _head([*groups[0].settings, "n"], metrics, main)
    return (
        "<h2>Over the seeds</h2>\n<p>Mean ± standard deviation of the n finished runs that differ in their seeds "
        f'alone.</p>\n<div class="table"><table id="groups"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _gallery(kinds: Sequence[str], figures: Sequence[str]) -> str:
    """Return the part of the page with the runs' pictures, of which it shows one kind."""
    options = "".join(f"<option>{html.escape(kind)}</option>" for kind in kinds)
    choice = f'<p class="controls"><label>of <select id="kind">{options}</select></label></p>'
    return "\n".join(["<h2>Images</h2>", choice, '<div class="gallery">', *figures, "</div>"])


def _spread(group: Group, metric: str) -> str:
    """Return `38.12 ± 0.21`, the deviation with two digits and the mean with as many decimals; or what there is.

    The mean has no more than five digits.
    """
    centre, deviation = group.mean(metric), group.deviation(metric)
    if centre is None or not deviation:
        return _shown(centre)
    shown = 4 - math.floor(math.log10(abs(centre) or 1))  # decimals of five digits
    decimals = max(min(1 - math.floor(math.log10(deviation)), shown), 0)
    return f"{centre:.{decimals}f} ± {deviation:.{decimals}f}"


def _follows(key: str, group: str, configs: Sequence[Mapping[str, object]]) -> bool:
    """Return whether the choice in a group decides the value of a key."""
    values: dict[str, set[str]] = {}
    for config in configs:
        values.setdefault(str(config.get(group)), set()).add(str(config.get(key)))
    return all(len(distinct) == 1 for distinct in values.values())


def _small(picture: Path) -> str:
    """Return a picture as a small JPEG in base64."""
    with Image.open(picture, formats=["PNG"]) as image:  # Pillow hands some formats to other programs.
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too large")
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last words of dotted keys, where no two of them have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for word, key in zip(last, keys, strict=True)]


def _or_empty(value: object) -> object:
    return "" if value is None else value


def _shown(value: object, digits: int = 5) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(_or_empty(value))
