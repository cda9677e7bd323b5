import csv
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from benchmarks import fashion
from benchmarks.fashion import COLUMNS, METHODS, OVERRIDES, PAGE, RESULTS_FILE, Column, page, read
from vae_runner.schema import register_schemas
from vae_runner.sweeps.directory import SweepDirectory


def finished(**given: str) -> list[dict[str, str]]:
    """The rows of a sweep, each with three seeds and these values."""
    return [{"method": name, "n": "3", **given} for name in METHODS]


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text() == page(read(RESULTS_FILE))


def test_all_runs_are_read_by_the_same_real_images() -> None:
    rows = read(RESULTS_FILE)
    for column in COLUMNS:
        if column.reference:
            assert len({column.number(row[column.reference]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [("0.0123", "0.0004", "12.30 ± 0.40"), ("-2", "0", "-2,000.00 ± 0.00"), ("0.5", "", "500.00"), ("", "", "–")],
)
def test_a_cell_has_the_mean_and_the_deviation_over_seeds(mean: str, deviation: str, expected: str) -> None:
    column = Column("error", "evaluation/mse", scale=1000, digits=2)
    assert column.cell({"evaluation/mse": mean, "evaluation/mse std": deviation}) == expected


def test_a_method_is_a_line_and_real_images_are_the_last() -> None:
    rows = finished(**{
        "evaluation/mse": "0.02", "evaluation/mse std": "0.001", "evaluation/linear_probe": "0.8",
        "evaluation/linear_probe[pixels]": "0.81", "evaluation/recall[classifier, real]": "0.9",
        "evaluation/frechet_distance[classifier, real]": "0.2", "evaluation/precision[classifier, real]": "0.95",
        "evaluation/knn_probe[pixels]": "0.82",
    })  # fmt: skip
    lines = [line for line in page(rows).splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(METHODS) + 1
    assert lines[2] == "| `ae` | – | 20.00 ± 1.00 | 80.0 | – | – | – | – |"
    assert lines[-1] == "| real images |  |  | 81.0 | 82.0 | 0.2 | 95.0 | 90.0 |"


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.pop(4),
        lambda rows: rows.append(dict(rows[4])),
        lambda rows: rows[4].update(n="2"),
        lambda rows: rows[4].update(n="10"),
        lambda rows: rows[4].update({"evaluation/mse n": "2"}),
    ],
)
def test_rows_are_complete_or_make_no_page(change: object, tmp_path: Path) -> None:
    rows = finished()
    assert [row["method"] for row in read(table(tmp_path / "all.csv", rows[::-1]))] == list(METHODS)
    change(rows)  # type: ignore[operator]
    with pytest.raises(SystemExit, match="method=factor_vae is to have one row"):
        read(table(tmp_path / "other.csv", rows))


def test_a_sweep_with_another_command_makes_no_page(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "sweep")
    with pytest.raises(SystemExit, match=r"^there is no sweep in "):
        fashion.check(sweep)
    sweep.path.mkdir()
    sweep.begin([*reversed(OVERRIDES), "hydra/launcher=joblib"], ["method", "seed"])
    fashion.check(sweep)
    sweep.begin([*OVERRIDES, "epochs=10"], ["method", "seed"])
    with pytest.raises(SystemExit, match=r"shows: epochs=10$"):
        fashion.check(sweep)


def test_the_page_says_what_its_experiment_does() -> None:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        for name in METHODS:
            config = compose("config", ["experiment=compare_fashion", f"method={name}"])
            assert (config.latent, config.epochs, config.batch_size, config.model.filters) == (16, 5, 128, 16)
            assert (config.optimizer.learning_rate, config.schedule.warmup_epochs) == (0.001, 0.5)
            assert config.likelihood._target_.endswith(".Gaussian")
            assert config.evaluation.likelihood.samples == 100
