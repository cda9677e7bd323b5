"""What a sweep's table and page tell, cell by cell."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

import vae_runner.schema  # noqa: F401 (registers our components)
from tests.browser import driven
from vae_runner.config import registry
from vae_runner.config.choices import CONF, part_name
from vae_runner.errors import UnwritableError
from vae_runner.runtime.console import console
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import CHOICES
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.report import Report

ADAM, ADAMW = (f"vae_runner.acceleration.optimizers.{name}" for name in ("Adam", "AdamW"))
METRICS = ("test/loss", "train/loss", "train/kl", "test/kl")
VARIED = ("latent", "optimizer", "loss.metric", "stopping.metric", "optimizer.weight_decay")
# A run a row: how it ended, its epoch, seconds and error, what it has for VARIED, and its METRICS. No two cells of a
# row are equal, so that none can stand in another's place.
RUNS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], tuple[float, ...]]] = {
    "a": (("finished", 3, 12.5, ""), (2, "adam", "x", "y", None), (3.5, 1.5, 2.5, 4.5)),
    "b": (("finished", 4, 13.5, ""), (8, "adamw", "v", "w", 0.25), (0.5, 6.5, 7.5, 9.5)),
    "c": (("failed", 5, 14.5, "no <room>"), (16, "mine", "t", "u", 0.75), (11.25, 12.25, 13.25, 14.25)),
    "d": (("interrupted", None, 15.5, ""), (32, "adamw", "r", "s", 0.5), ()),
}


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """The report about the sweep of RUNS."""
    sweep = SweepDirectory(tmp_path / "sweep")
    for name, ((status, epoch, seconds, error), (latent, optimizer, first, second, decay), metrics) in RUNS.items():
        config: dict[str, Any] = {
            "latent": latent,
            "seed": 0,
            "optimizer": {"_target_": ADAM if decay is None else ADAMW, "learning_rate": 0.5},
            "loss": {"metric": first},
            "stopping": {"metric": second},
            "data_dir": f"/{name}",
        }
        if decay is not None:
            config["optimizer"]["weight_decay"] = decay
        with RunDirectory.create(sweep.path / name, OmegaConf.create(config)) as run:
            info = {"status": status, "seconds": seconds, "metrics": dict(zip(METRICS, metrics, strict=False))}
            # A choice is kept of the user's own YAML alone, which has a target of ours: the others are of before.
            own = {CHOICES: {"optimizer": optimizer, "model": "conv"}} if optimizer == "mine" else {}
            reason = {"error": error} if error else {}
            run.write_info(info | own | reason | ({} if epoch is None else {"epoch": epoch}))
    sweep.begin(["latent=2,8,16,32", "optimizer=adam,adamw,mine"], ["latent", "optimizer"])
    report = Report(sweep)
    report.write()
    return report


def expected() -> dict[str, dict[str, Any]]:
    """The rows of the table by the names of the runs."""
    rows = {}
    for name, ((status, epoch, seconds, error), settings, metrics) in RUNS.items():
        measured = dict(zip(METRICS, metrics, strict=False)) or dict.fromkeys(METRICS)
        varied = dict(zip(VARIED, settings, strict=True))
        row = {"run": name, "status": status, "epoch": epoch, **varied, **measured}
        rows[name] = row | {"seconds": seconds, "error": error}
    return rows


def texts(row: dict[str, Any]) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in row.items()}


def test_every_cell_of_the_table_is_of_its_run_and_column(report: Report, tmp_path: Path) -> None:
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["run", "status", "epoch", *VARIED, *METRICS, "seconds", "error"]
    assert [dict(zip(header, row, strict=True)) for row in rows] == [texts(row) for row in expected().values()]


class Page(HTMLParser):
    """The cells of a page's table, and the words and titles of its plots."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.plots: list[list[str]] = []
        self._into: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("tr", "svg"):
            (self.rows if tag == "tr" else self.plots).append([])
        if tag in ("td", "th", "text", "title") and (self.plots or self.rows):
            self._into = self.plots[-1] if tag in ("text", "title") else self.rows[-1]
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "text", "title"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Page:
    """The sweep's page."""
    return Page((tmp_path / "sweep" / "sweep.html").read_text())


def test_every_cell_of_the_page_is_of_its_run_and_column(page: Page) -> None:
    header, *rows = page.rows
    assert header == ["run", "status", *VARIED, "epoch", *METRICS, "seconds"]
    assert rows == [[texts(row)[column] for column in header] for row in expected().values()]


def test_every_plot_is_of_the_finished_runs_over_its_key(page: Page) -> None:
    for key, words in zip(VARIED, page.plots, strict=True):
        assert f"test/loss over {key}" in words
        points = [word for word in words if word.startswith(("a: ", "b: ", "c: ", "d: "))]
        assert points == [f"a: {key}={RUNS['a'][1][VARIED.index(key)]}, test/loss=3.5",
                          f"b: {key}={RUNS['b'][1][VARIED.index(key)]}, test/loss=0.5"]  # fmt: skip


def test_the_terminal_has_the_best_run_first_and_no_heading_twice(
    report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)  # whatever terminal the tests are run from
    report.show()
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()][: len(RUNS) + 1]
    headings = ["latent", "optimizer", "loss.metric", "stopping.metric", "weight_decay"]
    assert header == ["run", "status", *headings, "epoch", "test/loss"]
    assert [row[0] for row in rows] == ["b", "a", "c", "d"]
    assert rows[0] == ["b", "finished", "8", "adamw", "v", "w", "0.25", "4", "0.5"]


def test_a_configuration_that_is_written_again_and_a_report_that_could_not_be_written_are_read_again(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_runner.sweeps.report.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("vae_runner.sweeps.report.TIMES_AS_LONG", 0)
    run = RunDirectory(tmp_path / "sweep" / "a")
    run.write_config(OmegaConf.merge(run.config, {"latent": 3}))  # as batch_size=auto and a resumed run do

    def full(path: Path, content: bytes) -> None:
        raise UnwritableError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("vae_runner.sweeps.report.write_atomic", full)
        with pytest.raises(UnwritableError):
            report.keep_current()
    report.keep_current()
    rows = csv.DictReader((tmp_path / "sweep" / "sweep.csv").open(newline=""))
    assert {row["run"]: row["latent"] for row in rows} == {"a": "3", "b": "8", "c": "16", "d": "32"}


def test_a_report_that_cannot_be_written_is_not_tried_again_at_once(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(path: Path, content: bytes) -> None:
        tried.append(path)
        raise UnwritableError("no room")

    monkeypatch.setattr("vae_runner.sweeps.report.write_atomic", full)
    with pytest.raises(UnwritableError):
        report.keep_current()
    report.keep_current()
    assert len(tried) == 1


def test_a_configuration_that_has_not_changed_is_not_parsed_again(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    monkeypatch.setattr("vae_runner.files.untrusted.yaml.parse", lambda *given, **more: parsed.append(given) or [])
    report.write()
    assert parsed == []
    Report(report._directory).write()
    assert len(parsed) == len(RUNS)


def test_every_choice_of_ours_is_known_by_its_target_too() -> None:
    ours = [component for component in registry.components() if component.group in registry.parts()]
    assert len(ours) > 15
    for component in ours:
        assert (CONF / component.group / f"{component.name}.yaml").exists()
        assert part_name(component.group, component.target, {}) == component.name
    assert part_name("loss", "my_loss.Mine", {}) == "my_loss.Mine"
    assert part_name("loss", "my_loss.Mine", {"loss": "mine", "model": "conv"}) == "mine"


def test_what_follows_from_a_choice_has_no_column_of_its_own(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "sweep")
    for name, (dataset, size, latent) in {
        "a": ("digits", 8, 2),
        "b": ("fashion", 28, 2),
        "c": ("digits", 8, 3),
    }.items():
        config = {"dataset": {"_target_": f"{dataset}.load", "image_size": size}, "latent": latent}
        with RunDirectory.create(sweep.path / name, OmegaConf.create(config)) as run:
            run.write_info({"status": "finished", "metrics": {"test/loss": 1.0}, CHOICES: {"dataset": dataset}})
    sweep.begin(["dataset=digits,fashion", "latent=2,3"], ["dataset", "latent"])
    Report(sweep).write()
    with sweep.table_file.open(newline="") as file:
        assert next(csv.reader(file)) == [
            "run",
            "status",
            "epoch",
            "dataset",
            "latent",
            "test/loss",
            "seconds",
            "error",
        ]


# --- over seeds -----------------------------------------------------------------------------------------------------

LOSSES = {(2, 0.5): (10.0, 12.0), (8, 0.5): (6.0, 9.0), (2, 2.0): (20.0, 20.5), (8, 2.0): (15.0,)}  # by seeds


@pytest.fixture
def over_seeds(tmp_path: Path) -> SweepDirectory:
    """A sweep of two keys and two seeds, of which one run has failed, with its report."""
    sweep = SweepDirectory(tmp_path / "sweep")
    for (latent, weight), losses in LOSSES.items():
        for seed in (0, 1):
            config = {"latent": latent, "loss": {"kl_weight": weight}, "seed": seed}
            name = f"latent_{latent}-kl_weight_{weight:g}-seed_{seed}-{latent}{round(weight * 10):02}{seed}0000"
            with RunDirectory.create(sweep.path / name, OmegaConf.create(config)) as run:
                ended = {"status": "failed"} if seed >= len(losses) else {"status": "finished", "seconds": 1.0}
                found = {"test/loss": losses[seed], "train/loss": losses[seed] - 1} if seed < len(losses) else {}
                run.write_info({**ended, "metrics": found, "epoch": 1})
                picture = run.figure_file("samples", 1)
                picture.parent.mkdir(parents=True)
                Image.new("RGB", (60, 40), (latent * 20, seed * 100, 0)).save(picture)
    sweep.begin(["latent=2,8", "loss.kl_weight=0.5,2", "seed=0,1"], ["latent", "loss.kl_weight", "seed"])
    Report(sweep).write()
    return sweep


def test_groups_have_mean_standard_deviation_and_number_of_the_finished_runs_over_the_seeds(
    over_seeds: SweepDirectory,
) -> None:
    with over_seeds.groups_file.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["latent", "loss.kl_weight", "n", "test/loss", "test/loss std", "train/loss", "train/loss std"]
    found = {(int(row[0]), float(row[1])): row[2:5] for row in rows}
    assert list(found) == sorted(LOSSES)
    for key, losses in LOSSES.items():
        n, centre, deviation = found[key]
        assert (int(n), float(centre)) == (len(losses), pytest.approx(np.mean(losses)))
        assert deviation == "" if len(losses) == 1 else float(deviation) == pytest.approx(np.std(losses, ddof=1))
    page = Page(over_seeds.page_file.read_text())
    assert page.rows[0] == ["latent", "loss.kl_weight", "n", "test/loss", "train/loss"]
    assert page.rows[1] == ["2", "0.5", "2", "11.0 ± 1.4", "10.0 ± 1.4"]
    assert page.rows[4] == ["8", "2", "1", "15", "14"]


@pytest.mark.parametrize("highest", [False, True])
def test_the_terminal_has_the_best_group_first_and_one_without_a_result_last(
    highest: bool, over_seeds: SweepDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in over_seeds.runs:
        if run.path.name.startswith("latent_8-kl_weight_0.5"):
            run.write_info({**run.info, "status": "failed"})
    over_seeds.search("test/loss", highest=highest, logarithmic=[])
    report = Report(over_seeds)
    report.write()
    monkeypatch.setattr(console, "width", 200)  # whatever terminal the tests are run from
    report.show()
    _, groups = capsys.readouterr().out.split("over the seeds")
    rows = [line.split() for line in groups.splitlines()[2:6]]
    best_first = [["2", "0.5"], ["8", "2"], ["2", "2"]]
    assert [row[:2] for row in rows] == [*(best_first[::-1] if highest else best_first), ["8", "0.5"]]


def test_a_plot_is_coloured_by_the_second_thing_that_varies_and_has_a_dot_a_seed(over_seeds: SweepDirectory) -> None:
    first, second = over_seeds.page_file.read_text().split("<svg")[1:]
    for plot, words in ((first, ("latent", "loss.kl_weight")), (second, ("loss.kl_weight", "latent"))):
        dots = re.findall(r'<g class="run"><title>.*?</title>.*?fill: (#\w+)', plot, re.DOTALL)
        assert len(dots) == 7  # All but the one that failed,
        assert len(set(dots)) == 2  # in two colours.
        said = re.findall(r"<text[^>]*>([^<]*)</text>", plot)
        assert {"test/loss", *words} <= {text.strip() for text in said}
        assert {"2", "8"} <= {text.strip() for text in said}  # on the axis or in the legend


def test_a_metric_that_some_runs_lack_has_its_own_number_of_runs(over_seeds: SweepDirectory) -> None:
    run = next(run for run in over_seeds.runs if run.path.name.startswith("latent_2-kl_weight_0.5-seed_1"))
    info = run.info
    run.write_info({**info, "metrics": {"test/loss": info["metrics"]["test/loss"]}})
    Report(over_seeds).write()
    with over_seeds.groups_file.open(newline="") as file:
        rows = [(row["n"], row["test/loss std"] != "", row["train/loss n"]) for row in csv.DictReader(file)]
    assert rows == [("2", True, "1"), ("2", True, "2"), ("2", True, "2"), ("1", False, "1")]
    page = Page(over_seeds.page_file.read_text())
    assert page.rows[1] == ["2", "0.5", "2", "11.0 ± 1.4", "9 (n = 1)"]
    assert page.rows[2][-1] == "19.25 ± 0.35"


def test_the_page_of_a_search_has_the_best_trial_first_and_no_line_between_trials(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "sweep")
    found = {"0.002": 0.5, "0.004": 0.7, "0.009": 0.9}
    trials = {**{rate: ("finished", value) for rate, value in found.items()}, "0.003": ("pruned", 0.99)}
    trials["0.005"] = ("failed", None)
    for number, (rate, (status, accuracy)) in enumerate(trials.items()):
        config = {"optimizer": {"learning_rate": float(rate)}, "seed": 0}
        with RunDirectory.create(sweep.path / f"{rate}-0000000{number}", OmegaConf.create(config)) as run:
            measured = {} if accuracy is None else {"test/loss": 1.0, "validation/accuracy": accuracy}
            run.write_info({"status": status, "metrics": measured})
    sweep.begin(["optimizer.learning_rate=tag(log,interval(0.001,0.1))"], ["optimizer.learning_rate"])
    sweep.search("validation/accuracy", highest=True, logarithmic=["optimizer.learning_rate"])
    Report(sweep).write()
    page = sweep.page_file.read_text()
    header, *rows = Page(page).rows
    assert [row[0].split("-")[0] for row in rows] == ["0.009", "0.004", "0.002", "0.003", "0.005"]
    assert header[4] == "validation/accuracy"
    assert "<th><button>validation/accuracy" in page  # which is seen without asking for all metrics
    assert "The best comes first, by validation/accuracy." in page
    assert "<h2>Images</h2>" not in page  # there are none
    (plot,) = page.split("<svg")[1:]
    places = [float(x) for x in re.findall(r'<g class="run"><title>.*?<use[^>]* x="([\d.]+)"', plot, re.DOTALL)]
    assert len(places) == 3
    where = {float(rate): place for rate, place in zip(reversed(found), places, strict=True)}
    part = (where[0.004] - where[0.002]) / (where[0.009] - where[0.002])
    assert part == pytest.approx(np.log(2) / np.log(4.5), abs=1e-3)  # though the values span less than a decade
    assert "stroke-width: 1.2" not in plot  # as lines, bars and means have


SORT = """
  const head = name => [...document.querySelectorAll("#runs th")].find(cell => cell.textContent === name);
  const column = number => [...document.querySelectorAll("#runs tbody tr")].map(row => row.cells[number].textContent);
  head("test/loss").click();
  const up = column(6);
  head("test/loss").click();
  return [up, column(6), head("test/loss").getAttribute("aria-sort")];
"""
FILTER = """
  const input = document.getElementById("filter");
  input.value = "latent=2 Finished seed_1";
  input.dispatchEvent(new Event("input"));
  const shown = found => [...document.querySelectorAll(found)].filter(one => one.getClientRects().length).length;
  return [shown("#runs tbody tr"), shown("figure"), document.getElementById("shown").textContent];
"""
LAYOUT = """
  const page = document.documentElement, beside = [...document.querySelectorAll("figure")].map(one => one.offsetTop);
  const headings = () => [...document.querySelectorAll("#runs th")].filter(one => one.offsetWidth).length;
  const few = headings();
  document.getElementById("all").click();
  const width = document.getElementById("runs").offsetWidth;
  return {fits: page.scrollWidth <= page.clientWidth, rows: new Set(beside).size, few, all: headings(), width};
"""


def test_the_page_sorts_by_numbers_in_a_browser_and_leaves_the_empty_last(over_seeds: SweepDirectory) -> None:
    up, down, told = driven(over_seeds.page_file, SORT)
    losses = [f"{loss:g}" for loss in sorted(loss for of_seeds in LOSSES.values() for loss in of_seeds)]
    assert up == [*losses, ""]
    assert down == [*losses[::-1], ""]
    assert told == "descending"


def test_the_page_shows_the_runs_and_pictures_that_fit_a_filter(over_seeds: SweepDirectory) -> None:
    assert driven(over_seeds.page_file, FILTER) == [2, 2, "2 of 8 runs"]


@pytest.mark.parametrize(("width", "rows"), [(1280, 2), (360, 8)])
def test_the_page_fits_its_window_and_has_the_pictures_side_by_side_where_there_is_room(
    over_seeds: SweepDirectory, width: int, rows: int
) -> None:
    found = driven(over_seeds.page_file, LAYOUT, width)
    assert found["fits"]
    assert found["rows"] == rows
    assert (found["few"], found["all"]) == (7, 9)
    assert found["width"] < 1280
