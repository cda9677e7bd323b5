"""The results of a sweep: a table on the terminal, sweep.csv, and sweep.html."""

import base64
import html
import io
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote

import yaml
from PIL import Image
from rich.table import Table

from vae_runner.config.choices import GROUPS, settings
from vae_runner.config.fingerprint import ID_CHARACTERS, NOT_COMPUTED
from vae_runner.errors import FormatError, UnreadableError, UserError, printable
from vae_runner.files.atomic import write_atomic
from vae_runner.files.csv_table import csv_table
from vae_runner.files.untrusted import READERS_ERRORS, YAML_LOADER, DamagedError, reading
from vae_runner.storage.run_info import CHOICES, MAIN_METRIC, OUTDATED, PRUNED
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.plots import scatter

SECONDS_BETWEEN = 5.0  # from one writing of the files to the next, at least;
TIMES_AS_LONG = 20  # and so many times the duration of the writing
THUMBNAIL = 220  # pixels
MAX_PIXELS = 50_000_000


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
    picture: Path | None = None


class Report:
    """Reads the runs of a sweep, and writes and shows their results."""

    def __init__(self, directory: SweepDirectory) -> None:
        self.runs: list[Run] = []
        self._directory = directory
        self._configs: dict[str, Mapping[str, object]] = {}  # by name; they do not change
        self._thumbnails: dict[tuple[str, float], str] = {}  # by name and time
        self._seen: list[tuple[str, float]] = []
        self._next = 0.0

    def keep_current(self) -> None:
        """Write again if a run.json has changed, and the last writing is long enough ago."""
        if time.monotonic() < self._next:
            return
        now = [(file.parent.name, file.stat().st_mtime) for file in sorted(self._directory.path.glob("*/run.json"))]
        start = time.monotonic()
        if now != self._seen:
            self._seen = now
            self.write()
        self._next = time.monotonic() + max(SECONDS_BETWEEN, TIMES_AS_LONG * (time.monotonic() - start))

    def write(self) -> None:
        """Read all runs, and replace sweep.csv and sweep.html."""
        self.runs = [self._read(run) for run in self._directory.runs]
        varied = self._varied()
        metrics = list(dict.fromkeys(name for run in self.runs for name in run.metrics))
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
        write_atomic(self._directory.page_file, printable(self._page(varied, metrics)).encode())

    def show(self) -> None:
        """Print the table of all runs, the best first."""
        from vae_runner.runtime.console import console, plain

        varied = self._varied()
        table = Table(box=None, pad_edge=False)
        for column in ("run", "status", *_short(varied), "epoch", MAIN_METRIC):
            table.add_column(plain(column), overflow="fold")
        longest = max((len(run.name) for run in self.runs), default=0)
        for run in sorted(self.runs, key=lambda run: run.metrics.get(MAIN_METRIC, float("inf"))):
            name = run.name if longest < console.width / 2 else f"…{run.name[-ID_CHARACTERS:]}"
            values = (run.status, *(run.config.get(key) for key in varied), run.epoch, run.metrics.get(MAIN_METRIC))
            style = {"finished": "", PRUNED: "dim", "failed": "red"}.get(run.status, "yellow")
            table.add_row(plain(name), *(plain(_shown(value, 4)) for value in values), style=style)
        console.print(table)
        console.print(plain(f"{counted(self.runs)}: {self._directory.page_file}"), soft_wrap=True)

    def _read(self, run: StoredRun) -> Run:
        name = run.path.name
        try:
            if run.path.is_symlink():
                raise UserError(f"{run.path} is a link: give the sweep that it leads to")
            info = StoredRun.open(run.path).info
            run.check_config()
            if name not in self._configs:
                with reading():
                    content = yaml.load(run.config_text, Loader=YAML_LOADER)
                chosen = info.get(CHOICES, {})
                # The choice in a group that is no part, like a preset, is there where the sweep varies it.
                presets = {group: chosen[group] for group in self._directory.info.keys if group in chosen}
                self._configs[name] = presets | settings(content, chosen)
            # The metric "seconds" is of the last epoch; the column of this name is of the run.
            metrics = {str(k): float(v) for k, v in info.get("metrics", {}).items() if k != "seconds"} | run.evaluated
            return Run(
                name, OUTDATED if OUTDATED in info else run.status, self._configs[name], info.get("epoch"), metrics,
                info.get("seconds"), info.get("error") or info.get(OUTDATED, ""), run.sample_picture,
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
        swept = self._directory.info.keys
        groups = [key for key in differing if key in swept and key in GROUPS]
        shown = [key for key in differing if key in swept or not any(_follows(key, group, configs) for group in groups)]
        return sorted(shown, key=lambda key: key not in swept)

    # --- the page -------------------------------------------------------------------------------------------------

    def _page(self, varied: Sequence[str], metrics: Sequence[str]) -> str:
        columns = ["run", "status", *varied, "epoch", *metrics, "seconds"]
        template = Template(resources.files("vae_runner.sweeps").joinpath("page.html").read_text(encoding="utf-8"))
        counts = Counter(run.status for run in self.runs)
        return template.substitute(
            title=html.escape(str(self._directory.path)),
            command=html.escape("vae-run -m " + " ".join(self._directory.info.command)),
            counts=html.escape(", ".join(f"{count} {status}" for status, count in sorted(counts.items()))),
            head="".join(f"<th>{html.escape(column)}</th>" for column in ("", *columns)),
            rows="\n".join(self._row(run, varied, metrics) for run in self.runs),
            plots="\n".join(self._plots(varied)),
        )

    def _row(self, run: Run, varied: Sequence[str], metrics: Sequence[str]) -> str:
        link = f'<a href="{quote(os.fsencode(run.name))}/">{html.escape(run.name)}</a>'
        title = f' title="{html.escape(run.error, quote=True)}"' if run.error else ""
        measured = (run.epoch, *(run.metrics.get(name) for name in metrics), run.seconds)
        values = (*(run.config.get(key) for key in varied), *measured)
        cells = "".join(f"<td>{html.escape(_shown(value))}</td>" for value in values)
        status = f'<td class="{html.escape(run.status, quote=True)}"{title}>{html.escape(run.status)}</td>'
        return f"<tr><td>{self._thumbnail(run)}</td><td>{link}</td>{status}{cells}</tr>"

    def _plots(self, varied: Sequence[str]) -> Iterator[str]:
        """Yield a plot for each varied key: the metric of the finished runs over it."""
        finished = [run for run in self.runs if MAIN_METRIC in run.metrics and run.status == "finished"]
        if len(finished) > 1:
            for key in varied:
                points = [(run.config.get(key), run.metrics[MAIN_METRIC], run.name) for run in finished]
                yield scatter(key, MAIN_METRIC, points)

    def _thumbnail(self, run: Run) -> str:
        if run.picture is None:
            return ""
        try:
            key = (run.name, run.picture.stat().st_mtime)
            if key not in self._thumbnails:
                self._thumbnails[key] = _small(run.picture)
        except (*READERS_ERRORS, SyntaxError, Image.DecompressionBombError):
            return ""
        return f'<img src="data:image/jpeg;base64,{self._thumbnails[key]}" alt="samples" loading="lazy">'


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


def counted(runs: Sequence[object]) -> str:
    """Return `1 run`, `2 runs`, …."""
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last words of dotted keys, where no two of them have the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for word, key in zip(last, keys, strict=True)]


def _or_empty(value: object) -> object:
    return "" if value is None else value


def _shown(value: object, digits: int = 5) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(_or_empty(value))
