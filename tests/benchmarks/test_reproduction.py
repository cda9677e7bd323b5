import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import reproduction
from benchmarks.reproduction import (
    PAGE,
    RESULTS_FILE,
    Result,
    Row,
    Variant,
    collect,
    kmeans_accuracy,
    page,
    read_results,
    read_rows,
    verdict,
)
from tests.conftest import REPOSITORY, mostly_slow
from tests.small_experiments import built, two_steps
from vae_runner.config.checks import check
from vae_runner.datasets.digits import load as load_digits
from vae_runner.storage.stored_run import StoredRun

ROWS = read_rows()
VARIANTS = [variant for row in ROWS.values() for variant in row.variants()]
BUILT = [name for name, row in ROWS.items() if row.experiment == f"reproduce/{name}"]  # not those of the tutorial
RECIPES = REPOSITORY / "conf" / "experiment"
# One recipe of each network and loss: the others differ in numbers.
KINDS = ("iwae_mnist", "conditional_iwae_mnist_k5", "svae_mnist_d2", "ppca_digits")


def test_every_recipe_has_a_row_and_every_row_a_recipe() -> None:
    recipes = {f"reproduce/{file.stem}" for file in (RECIPES / "reproduce").glob("*.yaml")}
    named = {row.experiment for row in ROWS.values()}
    assert not recipes - named, "no row in benchmarks/reproduction.yaml"
    assert not {name for name in named if not (RECIPES / f"{name}.yaml").is_file()}, "no recipe"
    assert len(ROWS) == len(named)
    assert len(recipes) >= 20


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_row_says_where_its_figure_is_from_and_has_a_band_around_it(row: Row) -> None:
    assert row.method
    assert row.source
    assert (row.short is None) == (not row.costs), "what a short variant costs is said"
    assert "nll" not in row.values or row.samples is not None
    for metric, value in row.values.items():
        low, high = value.bands[False] or pytest.fail(f"{metric} has no band")
        assert low < high
        if value.published is not None and "sprites" not in row.name:
            assert low <= value.published <= high
        assert (value.bands[True] is not None) == (row.short is not None)


def test_short_variants_compose_and_pass() -> None:
    """One for each list of overrides: a composition takes half a second."""
    for variant in {tuple(variant.overrides[1:]): variant for variant in VARIANTS if variant.is_short}.values():
        check(variant.composed())


@pytest.mark.parametrize("name", mostly_slow(sorted(BUILT, key=KINDS.__contains__, reverse=True), len(KINDS)))
def test_a_recipe_builds_a_model_that_takes_two_steps(name: str) -> None:
    # Digits have no factors.
    few = ("dataset=sprites", "dataset.scales=1", "dataset.orientations=1") if "sprites" in name else ()
    experiment = built(f"experiment={ROWS[name].experiment}", *few, network=())
    for metric, value in two_steps(experiment, compiled=False).items():
        assert np.isfinite(value), metric


def test_the_closed_form_of_probabilistic_pca_is_what_the_registry_has() -> None:
    """Tipping and Bishop (1999): log N(x; m, W Wᵀ + σ² I), with W and σ² of the training images' covariance."""
    latent = Variant(ROWS["ppca_digits"], False).composed().latent
    digits = load_digits(test_fraction=0.2)
    train, test = (np.asarray(split.images).reshape(len(split), -1) / 255.0 for split in (digits.train, digits.test))
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    variance = values[:-latent].mean()
    principal = vectors[:, -latent:]
    covariance = (principal * (values[-latent:] - variance)) @ principal.T + variance * np.eye(len(values))
    centred = test - train.mean(axis=0)
    distances = np.einsum("ni,ni->n", centred, np.linalg.solve(covariance, centred.T).T)
    _, log_determinant = np.linalg.slogdet(covariance)
    log_likelihood = -0.5 * (len(values) * np.log(2 * np.pi) + log_determinant + distances).mean()
    assert ROWS["ppca_digits"].values["evaluation/log_likelihood"].published == pytest.approx(log_likelihood, abs=0.005)


def test_a_mean_outside_its_band_is_below_or_above_it() -> None:
    assert verdict([84.0, 86.0], (84.9, 85.1)) == "in the band"
    assert verdict([84.0, 86.2], (84.9, 85.05)) == "**above the band**"
    assert verdict([84.0, 85.6], (84.9, 85.05)) == "**below the band**"


def test_clusters_that_are_the_classes_in_another_order_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(60) % 3
    means = np.eye(3)[(labels + 1) % 3] + np.random.default_rng(0).normal(0, 0.01, (60, 3))
    labels[:6] = (labels[:6] + 1) % 3  # a tenth is of another class than its neighbours
    monkeypatch.setattr(StoredRun, "embeddings", (means, labels))
    assert kmeans_accuracy(StoredRun(Path())) == pytest.approx(90)


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduction", *map(str, arguments)])
    reproduction.main()


def test_the_list_names_every_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main(monkeypatch, "--list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ROWS)


def test_a_row_without_a_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.md"
    main(monkeypatch, "--out", tmp_path, "--results", tmp_path / "none.csv", "--page", file)
    table = [line for line in file.read_text().splitlines() if line.startswith("| ") and "`vae-run" in line]
    assert len(table) == sum(len(variant.row.values) for variant in VARIANTS)
    assert all("| not run |" in line for line in table)


def test_the_page_is_what_the_collected_results_make_of_the_registry() -> None:
    assert page(ROWS, read_results(RESULTS_FILE)) == PAGE.read_text()


def test_collected_results_are_of_the_recipes_as_they_are() -> None:
    recipes = {variant.name: variant.recipe for variant in VARIANTS}
    for result in read_results(RESULTS_FILE):
        assert result.recipe == recipes[result.name], f"{result.name} has another recipe now: run it again"


def test_results_of_another_recipe_are_void_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    kept = Result("ppca_digits", Variant(ROWS["ppca_digits"], False).recipe, 0, "loss", 14.3, 0.01, "2 cores")
    void = replace(kept, name="ppca_mnist")
    with file.open("w") as lines:
        print(*asdict(kept), sep=",", file=lines)
        for result in (void, kept):
            print(*asdict(result).values(), sep=",", file=lines)
    assert read_results(file) == [void, kept]
    assert collect(VARIANTS, tmp_path, file) == [kept] == read_results(file)


# --- a row that is run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a row has been run by the command."""
    out = tmp_path_factory.mktemp("reproduced")
    files = ["--out", out, "--results", out / "results.csv", "--page", out / "page.md"]
    command = [sys.executable, "-m", "benchmarks.reproduction", "ppca_digits", *files]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return out


@pytest.mark.slow
def test_a_row_is_reproduced(reproduced: Path) -> None:
    """Probabilistic PCA of the digits: the whole recipe, from the command to its line of the page."""
    (line,) = [line for line in (reproduced / "page.md").read_text().splitlines() if "=reproduce/ppca_digits" in line]
    assert "| 14.41 | 14.11 to 14.71 | 14." in line
    assert "(1 seed) | in the band |" in line
    (result,) = read_results(reproduced / "results.csv")
    assert f"{result.value:.2f} (1 seed)" in line


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_another_seed_is_run(
    reproduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(reproduction, "call", lambda *words: calls.append(tuple(map(str, words))))
    main(monkeypatch, "ppca_digits", "--seeds", "0,1", "--out", reproduced)
    trained = [words for words in calls if words[0] == "vae-run"]
    assert [word for words in trained for word in words if word.startswith("seed=")] == ["seed=1"]


@pytest.mark.slow
def test_a_run_of_another_recipe_is_no_run_of_the_row(reproduced: Path) -> None:
    row = ROWS["ppca_digits"]
    assert list(Variant(row, False).finished(reproduced)) == [0]
    (reproduced / "ppca_digits-short").symlink_to(reproduced / "ppca_digits")
    assert list(Variant(replace(row, short=["seed=3", "figures=none"]), True).finished(reproduced)) == [0]
    assert not Variant(replace(row, short=["latent=9"]), True).finished(reproduced)


@pytest.mark.slow
def test_a_run_without_a_key_is_one_of_the_row_if_the_rows_value_is_what_runs_computed_then(
    reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(reproduced / "ppca_digits", tmp_path / "ppca_digits")
    (file,) = tmp_path.glob("ppca_digits/*/config.yaml")
    config = yaml.safe_load(file.read_text())
    bias = config["model"].pop("output_bias")
    file.write_text(yaml.safe_dump(config))
    variant = Variant(ROWS["ppca_digits"], False)
    for then, seeds in ((bias, [0]), ("another", [])):
        monkeypatch.setattr(reproduction, "WITHOUT_KEY", {"model.output_bias": then})
        assert list(variant.finished(tmp_path)) == seeds
