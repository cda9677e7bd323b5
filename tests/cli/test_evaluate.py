"""What `vae-evaluate` does: it measures a finished run, keeps and prints the values, and says what it cannot."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import COMMANDS, command, mostly_slow
from tests.datasets.conftest import write_numbered
from tests.evaluation.linear_gaussian import greatest_evidence
from vae_runner.errors import UserError
from vae_runner.evaluation.likelihood import log_likelihood, standard_error
from vae_runner.evaluation.schema import EvaluationConfig, LikelihoodConfig
from vae_runner.experiment import subject_of
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory

InProcess = Callable[..., None]
Refusal = Callable[..., str]
Said = pytest.CaptureFixture[str]

FEW = ("evaluation.likelihood.samples=5", "evaluation.likelihood.images=20", "evaluation.structure.samples=50")
MLP = ("dataset=digits", "model=mlp", "model.width=16", "figures=none", "epochs=1")


@pytest.fixture(scope="module")
def evaluated(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that the installed command has measured by default, and what it printed."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(finished_run, folder / "run")
    result = command("vae-evaluate", "run", *FEW, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run", result.stdout


@pytest.fixture
def run(evaluated: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated[0], tmp_path / "run"))


def entries(run: Path) -> dict[str, dict[str, object]]:
    return json.loads((run / "evaluation" / "metrics.json").read_text())["metrics"]


def in_tensorboard(run: Path, name: str) -> list[tuple[int, float]]:
    """The steps and values of a metric."""
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    events = accumulator.Tensors(f"evaluation/{name}")
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events]


def test_the_default_measures_likelihood_structure_reconstruction_and_probes(evaluated: tuple[Path, str]) -> None:
    run, printed = evaluated
    assert set(entries(run)) == {
        *("importance_sampling", "kl", "surgery", "gaussian_total_correlation", "diagnosis"),
        *("reconstruction", "probes"),
    }
    for name, value in StoredRun.open_finished(run).evaluated.items():
        assert re.search(rf"{re.escape(name.removeprefix('evaluation/'))} +{re.escape(f'{value:.4g}')}", printed), name
    assert "the σ" in printed or "with σ = " in printed  # The default likelihood is no density.
    assert (run / "evaluation" / "kl_by_dimension.png").stat().st_size > 5000


def test_each_value_is_kept_with_how_it_came_about(evaluated: tuple[Path, str]) -> None:
    entry = entries(evaluated[0])["importance_sampling"]
    assert entry["how"] == {"n": 20, "split": "test", "samples": 5, "measure": "unit interval"}
    assert entry["settings"]["seed"] == 0
    stored = json.loads((evaluated[0] / "evaluation" / "metrics.json").read_text())
    assert {"vae_runner", "tensorflow"} < entry["versions"].keys()
    assert stored["of_weights"] == StoredRun.open_finished(evaluated[0]).weights_digest


def test_the_kl_term_is_that_of_the_last_epoch(evaluated: tuple[Path, str]) -> None:
    run = StoredRun.open_finished(evaluated[0])
    assert run.evaluated["evaluation/kl"] == pytest.approx(run.info["metrics"]["test/kl"], rel=1e-4)


def test_the_same_command_gives_the_same_numbers_to_the_last_digit(run: Path, in_process: InProcess) -> None:
    before = entries(run)
    in_process("vae-evaluate", "run", *FEW, "--again", cwd=run.parent)
    for name, entry in entries(run).items():
        assert entry.get("values") == before[name].get("values"), name
        assert entry["notes"] == before[name]["notes"]


def test_what_has_been_measured_is_not_measured_again_and_other_keys_measure_anew(
    run: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / "evaluation" / "metrics.json").read_bytes()
    in_process("vae-evaluate", "run", *FEW, cwd=run.parent)
    assert (run / "evaluation" / "metrics.json").read_bytes() == before
    in_process("vae-evaluate", "run", "evaluation=likelihood", "evaluation.likelihood.images=10", cwd=run.parent)
    after = entries(run)
    assert after["importance_sampling"]["how"]["n"] == 10
    assert after["probes"] == json.loads(before)["metrics"]["probes"]


def test_of_other_weights_everything_is_measured_anew(run: Path, in_process: InProcess) -> None:
    stored = RunDirectory(run)
    before, digest = stored.evaluation, stored.weights_digest
    arrays = dict(np.load(stored.weights_file))
    np.savez(stored.weights_file, **{name: a / 2 if a.dtype == np.float32 else a for name, a in arrays.items()})
    assert stored.evaluation == {}
    with pytest.raises(UserError, match="has been trained further meanwhile"):
        stored.save_evaluation(before, digest)
    in_process("vae-evaluate", "run", "evaluation=reconstruction", cwd=run.parent)
    assert set(entries(run)) == {"reconstruction"}


def test_processes_that_measure_one_run_at_once_keep_what_each_has_found(run: Path) -> None:
    digest, before = RunDirectory(run).weights_digest, entries(run)

    def add(number: int) -> None:
        RunDirectory(run).save_evaluation({f"metric_{number}": {"refused": "none"}}, digest)

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(add, range(64)))
    assert set(entries(run)) == {*before, *(f"metric_{number}" for number in range(64))}


def test_tensorboard_has_the_values_once_at_the_last_step(run: Path, in_process: InProcess) -> None:
    in_process("vae-evaluate", "run", "evaluation=reconstruction", "--again", cwd=run.parent)
    ((step, value),) = in_tensorboard(run, "psnr")
    assert step == StoredRun.open_finished(run).info["step"]
    assert value == pytest.approx(entries(run)["reconstruction"]["values"]["psnr"])


def test_vae_compare_has_the_values_in_its_table(run: Path, in_process: InProcess) -> None:
    in_process("vae-compare", "run", cwd=run.parent)
    header, row = (run.parent / "compare.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(values["evaluation/psnr"]) == entries(run)["reconstruction"]["values"]["psnr"]


def test_a_run_measures_at_its_end_and_while_it_trains(tmp_path: Path, in_process: InProcess, capsys: Said) -> None:
    keys = ("evaluation=reconstruction", "evaluation.every=1", "epochs=2", "dataset.limit=64")
    in_process("vae-run", *MLP, *keys, "hydra.run.dir=run", cwd=tmp_path)
    assert "psnr" in capsys.readouterr().out
    values = entries(tmp_path / "run")["reconstruction"]["values"]
    (first, _), (last, value) = in_tensorboard(tmp_path / "run", "psnr")
    assert (first, last) == (1, 2)
    assert value == pytest.approx(values["psnr"])
    in_process("vae-run", "resume=run", "evaluation=structure", cwd=tmp_path)
    assert {"reconstruction", "kl"} <= set(entries(tmp_path / "run"))


def test_a_collapsed_run_is_told_what_to_change_and_that_helps(
    tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    """The weight of the reconstruction error is that of a mean over pixels, a mistake that is often made."""
    keys = ("dataset=digits", "model=mlp", "model.width=64", "figures=none", "epochs=15", "latent=4")
    in_process("vae-run", *keys, "loss.reconstruction_weight=1", "hydra.run.dir=collapsed", cwd=tmp_path)
    in_process("vae-evaluate", "collapsed", "evaluation=structure", cwd=tmp_path)
    printed = capsys.readouterr().out
    assert "collapse" in printed
    (advised,) = re.findall(r"loss\.reconstruction_weight=([\d.]+)", printed)
    in_process("vae-run", *keys, f"loss.reconstruction_weight={advised}", "hydra.run.dir=mended", cwd=tmp_path)
    capsys.readouterr()
    in_process("vae-evaluate", "mended", "evaluation=structure", cwd=tmp_path)
    assert "collapse" not in capsys.readouterr().out
    before, after = (StoredRun.open_finished(tmp_path / name).evaluated for name in ("collapsed", "mended"))
    assert before["evaluation/active_units"] == 0
    assert after["evaluation/active_units"] >= 1


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(
    tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    in_process("vae-run", *MLP, "method=ae", "dataset.limit=64", "hydra.run.dir=run", cwd=tmp_path)
    capsys.readouterr()
    in_process("vae-evaluate", "run", "evaluation=all", *FEW, cwd=tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"Not measured: importance_sampling: .* density", printed)
    assert re.search(r"Not measured: mig, dci, .*: .* known factors, and the images have none", printed)
    assert "psnr" in printed
    assert "linear_probe" in printed


def test_weights_that_are_no_numbers_get_a_line_for_each_metric_and_make_no_picture(
    run: Path, in_process: InProcess, refusal: Refusal, capsys: Said
) -> None:
    file = run / "models" / "weights.npz"
    arrays = dict(np.load(file))
    np.savez(file, **{name: a * np.nan if a.dtype == np.float32 else a for name, a in arrays.items()})
    in_process("vae-evaluate", "run", *FEW, cwd=run.parent)
    printed = capsys.readouterr().out
    assert "NaN" in printed
    assert not StoredRun.open_finished(run).evaluated.keys() & {
        f"evaluation/{name}" for name in ("psnr", "kl", "linear_probe")
    }
    for name in ("vae-sample", "vae-compare"):
        assert "run makes images of values that are not finite" in refusal(
            name, "run", "--out", "x.png", cwd=run.parent
        )
    assert not (run.parent / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["run", "evaluation.every=1", "evaluation=none"], "nothing is measured, then or at the end"),
        (["run", "evaluation=likelyhood"], "there is no such evaluation. Did you mean 'likelihood'?"),
        (["run", "evaluation.likelihood.samples=0"], "evaluation.likelihood.samples=0: must be at least 1"),
        (["run", "evaluation.likelihod.samples=10"], "Did you mean"),
        (["run", "evaluation.metrics=[likelyhood]"], "there is no likelyhood. Did you mean 'likelihood'?"),
        (["run", "latent=3"], "latent=3: vae-evaluate takes evaluation=… and evaluation.KEY=…"),
        (["run", "evaluation=[all]"], "one evaluation is chosen, and no list"),
        (["run", "--agian"], "there is no option '--agian'. Did you mean '--again'?"),
        (["run", "--root", "x"], "has no key root: leave it out"),
    ],
)
def test_a_bad_command_line_gets_one_line(run: Path, refusal: Refusal, arguments: list[str], message: str) -> None:
    assert message in refusal("vae-evaluate", *arguments, cwd=run.parent)


def test_a_damaged_file_of_metrics_is_named(run: Path, refusal: Refusal) -> None:
    file = run / "evaluation" / "metrics.json"
    file.write_text(file.read_text().replace("probes", "proves"))
    assert "metrics.json cannot be used" in refusal("vae-evaluate", "run", cwd=run.parent)


@pytest.mark.slow
def test_ctrl_c_loses_only_the_metric_under_way(run: Path) -> None:
    (run / "evaluation" / "metrics.json").unlink()
    slow = "evaluation.likelihood.samples=100000"
    process = subprocess.Popen(
        [COMMANDS / "vae-evaluate", "run", slow, "evaluation=all"], cwd=run.parent, stderr=subprocess.PIPE, text=True
    )
    # Groups are measured in the order of the table, likelihood first; the signal comes while it is under way.
    time.sleep(20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "what has been measured is kept" in said
    result = command("vae-evaluate", "run", *FEW, cwd=run.parent)
    assert result.returncode == 0, result.stderr


def test_a_damaged_run_of_a_sweep_does_not_keep_the_others_from_being_measured(
    run: Path, tmp_path: Path, refusal: Refusal
) -> None:
    directory = SweepDirectory(tmp_path / "sweep")
    directory.begin(["seed=0,1"], ["seed"])
    for name in ("a", "b"):
        shutil.copytree(run, directory.path / name)
    (directory.path / "a" / "run.json").write_text("{")
    few = ("evaluation.likelihood.samples=5", "evaluation.likelihood.images=10")
    said = refusal("vae-evaluate", "sweep", "evaluation=likelihood", *few, cwd=tmp_path)
    assert "1 of 2 runs could not be measured: sweep/a: sweep/a/run.json cannot be used" in said
    assert entries(directory.path / "b")["importance_sampling"]["how"]["n"] == 10  # type: ignore[index]


@pytest.mark.slow
def test_every_finished_run_of_a_sweep_is_measured_and_those_of_other_seeds_are_compared(tmp_path: Path) -> None:
    network = ("model=mlp", "model.width=32", "latent=3", "epochs=8", "batch_size=16", "optimizer.learning_rate=0.01")
    keys = ("dataset=sprites", "dataset.limit=300", "figures=none", *network)
    result = command("vae-run", "-m", "seed=0,1,2", *keys, "sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    groups = "evaluation.metrics=[structure,disentanglement]"
    few = ("evaluation.disentanglement.images=1000", "evaluation.dci.samples=1000", "evaluation.dci.test_samples=500")
    result = command("vae-evaluate", "sweep", groups, *few, *FEW, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    runs = sorted(path.parent for path in tmp_path.glob("sweep/*/run.json"))
    assert len(runs) == 3
    for run in runs:
        found = StoredRun.open_finished(run).evaluated.keys()
        assert {f"evaluation/{name}" for name in ("mig", "dci_disentanglement", "udr[lasso]", "kl")} <= found
        entry = entries(run)["udr"]
        assert (entry["how"]["n"], entry["settings"]) == (300, {"seed": 0})
        assert 0 <= entry["values"]["udr[spearman, random code]"] < 0.5
        assert in_tensorboard(run, "udr[lasso]")
    assert "mig[ceiling]" in (tmp_path / "sweep" / "sweep.html").read_text()
    assert "udr[lasso]" in (tmp_path / "sweep" / "sweep.csv").read_text()


def test_a_subject_encodes_an_image_once_whatever_the_order_of_the_questions(finished_run: Path) -> None:
    config = EvaluationConfig(likelihood=LikelihoodConfig(images=20))
    few, many = (subject_of(StoredRun.open_finished(finished_run), config) for _ in range(2))
    first = few.encoded("test", 10)
    np.testing.assert_array_equal(first.mean, many.encoded("test", 100).first(10).mean)
    assert many.encoded("test", 50).parameters["mean"].base is not None  # a view of what is there
    images = many.images("test", 10)
    np.testing.assert_array_equal(images.images, first.split.images)
    np.testing.assert_array_equal(images.labels, first.labels)


def test_of_large_images_only_metrics_that_keep_pixels_have_fewer_than_asked_for_and_say_so(
    run: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = entries(run)
    monkeypatch.setattr("vae_runner.evaluation.subject.MAX_BYTES", 50 * 8 * 8)
    groups = "evaluation.metrics=[likelihood,structure,reconstruction,probes,samples]"
    few = ("evaluation.samples.features=random", "evaluation.samples.number=100")
    in_process("vae-evaluate", "run", groups, *few, *FEW, "--again", cwd=run.parent)
    after = entries(run)
    for name in ("importance_sampling", "kl", "surgery", "reconstruction", "diagnosis"):
        assert after[name]["how"] == before[name]["how"]
        assert after[name].get("values") == before[name].get("values")
        assert after[name]["notes"] == before[name]["notes"]
    test = before["probes"]["how"]["n"]
    train = before["probes"]["how"]["n_train"]
    assert min(test, train) > 50
    assert before["probes"]["how"] == {
        "n_train": train, "n": test, "n_train_pixels": train, "n_pixels": test, "code": "mean"
    }  # fmt: skip
    assert after["probes"]["how"] == {**before["probes"]["how"], "n_train_pixels": 50, "n_pixels": 50}
    assert after["probes"]["values"]["linear_probe"] == before["probes"]["values"]["linear_probe"]
    said = "Of images of 8×8×1 no more fit into memory than 50 in place of {} images"
    of_train, of_test = said.format(f"{train:,} training"), said.format(f"{test:,} test")
    assert not [note for note in before["probes"]["notes"] if "fit into memory" in note]
    assert after["probes"]["notes"][:2] == [
        f"{note}: the probes of pixels and of principal components have those only" for note in (of_train, of_test)
    ]
    for name in ("sample_quality", "memorization"):
        assert after[name]["how"]["n"] == 50
        assert said.format("100 test") in after[name]["notes"]


def test_of_one_image_there_is_no_standard_error(run: Path, in_process: InProcess) -> None:
    in_process("vae-evaluate", "run", "evaluation=reconstruction", "evaluation.reconstruction.images=1", cwd=run.parent)
    entry = entries(run)["reconstruction"]
    assert entry["how"]["n"] == 1
    assert entry["standard_errors"] == {}


def test_what_could_not_be_measured_is_tried_again(run: Path, in_process: InProcess) -> None:
    keys = ("evaluation=samples", "evaluation.samples.features=mine.keras")
    (run.parent / "mine.keras").write_text("no model")
    in_process("vae-evaluate", "run", *keys, cwd=run.parent)
    assert "cannot be read" in entries(run)["sample_quality"]["refused"]
    network = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    network.save(run.parent / "mine.keras")
    in_process("vae-evaluate", "run", *keys, cwd=run.parent)
    values = entries(run)["sample_quality"]["values"]
    assert {"frechet_distance[mine.keras]", "precision[mine.keras, real]"} <= values.keys()


def test_features_of_a_file_with_another_content_are_measured_again_and_those_of_the_same_are_not(
    run: Path, in_process: InProcess
) -> None:
    keys = ("evaluation=samples", "evaluation.samples.features=mine.keras", "evaluation.samples.number=100")

    def measured() -> dict[str, object]:
        in_process("vae-evaluate", "run", *keys, cwd=run.parent)
        return entries(run)

    images = keras.layers.Input((8, 8, 1))
    keras.Sequential([images, keras.layers.Flatten(), keras.layers.Dense(4)]).save(run.parent / "mine.keras")
    first = measured()
    # A path is the same from anywhere, and the result that of the file.
    in_process("vae-evaluate", ".", keys[0], f"{keys[1].replace('=', '=../')}", keys[2], cwd=run)
    assert entries(run) == first
    keras.Sequential([images, keras.layers.Flatten(), keras.layers.Dense(4)]).save(run.parent / "mine.keras")
    again = measured()
    quality = [found["sample_quality"] for found in (first, again)]
    assert quality[0]["values"] != quality[1]["values"]  # type: ignore[index]
    assert quality[0]["how"]["weights"] != quality[1]["how"]["weights"]  # type: ignore[index]
    assert again["memorization"] == first["memorization"]  # whose value no features decide


def test_the_diagnosis_takes_what_others_have_found_whenever_that_was(
    tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    in_process("vae-run", *MLP, "likelihood=gaussian", "dataset.limit=64", "hydra.run.dir=run", cwd=tmp_path)
    in_process("vae-evaluate", "run", "evaluation=structure", *FEW, cwd=tmp_path)
    assert entries(tmp_path / "run")["diagnosis"]["settings"]["uses"] == {}
    in_process("vae-evaluate", "run", "evaluation=likelihood", *FEW, cwd=tmp_path)
    in_process("vae-evaluate", "run", "evaluation=structure", *FEW, cwd=tmp_path)
    found = entries(tmp_path / "run")["importance_sampling"]["values"]
    assert entries(tmp_path / "run")["diagnosis"]["settings"]["uses"] == {
        name: found[name] for name in ("log_likelihood", "elbo")
    }


@pytest.mark.parametrize(
    "keys",
    [
        ["method=class_prior"],
        ["method=cvae"],
        ["posterior=power_spherical", "prior=sphere"],
        ["method=gumbel_vae", "latent=3"],
        ["posterior=iaf", "prior=mixture", "likelihood=bernoulli", "dataset.binarize=dynamic"],
        ["method=vq_vae", "model.widths=4", "latent=4", "posterior.codes=8"],
    ],
    ids=" ".join,
)
def test_every_kind_of_latent_space_is_measured_as_far_as_it_can_be(
    keys: list[str], tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    network = MLP if "model.widths=4" not in keys else ("dataset=digits", "figures=none", "epochs=1")
    in_process("vae-run", *network, *keys, "dataset.limit=128", "hydra.run.dir=run", cwd=tmp_path)
    in_process("vae-evaluate", "run", "evaluation=all", "evaluation.samples.features=random", *FEW, cwd=tmp_path)
    values = StoredRun.open_finished(tmp_path / "run").evaluated
    assert {"evaluation/psnr", "evaluation/linear_probe", "evaluation/precision[random]"} <= values.keys()
    assert all(np.isfinite(value) for value in values.values())
    capsys.readouterr()
    in_process("vae-compare", "run", cwd=tmp_path)


@pytest.mark.slow
def test_a_linear_autoencoder_ends_at_probabilistic_pca_and_the_commands_say_so(tmp_path: Path) -> None:
    linear = ("dataset=digits", "model=linear", "model.output_bias=mean", "latent=2")
    likelihood = ("likelihood=gaussian", "likelihood.squash_mean=false")
    training = ("epochs=150", "batch_size=100", "optimizer.learning_rate=0.05", "schedule=cosine", "figures=none")
    for line in (
        ["vae-run", *linear, *likelihood, *training, "hydra.run.dir=run"],
        ["vae-evaluate", "run", "evaluation.metrics=[likelihood,structure]"],
    ):
        result = command(*line, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    run = StoredRun.open_finished(tmp_path / "run")
    subject = subject_of(run, EvaluationConfig())
    train, test = (np.asarray(subject.splits[name].images) for name in ("train", "test"))
    optimum, of_test = greatest_evidence(train, latent=2), greatest_evidence(train, test, latent=2)
    values = run.evaluated
    assert values["evaluation/log_likelihood"] == pytest.approx(of_test, abs=0.05)
    assert values["evaluation/elbo"] == pytest.approx(of_test, abs=0.1)
    assert values["evaluation/active_units"] == 2
    bounds = log_likelihood(subject.autoencoder, train, samples=20)
    assert optimum - 0.05 < bounds.log_likelihood.mean() < optimum + 1e-3
    assert optimum - 0.05 < bounds.elbo.mean() < optimum + 4 * standard_error(bounds.elbo - bounds.log_likelihood)
    assert "no fault found: 2 of 2 dimensions are active" in result.stdout


@pytest.mark.parametrize("groups", mostly_slow(["structure,reconstruction,probes", "likelihood,samples"]))
def test_numbers_at_the_end_of_a_run_in_mixed_precision_are_those_of_vae_evaluate(
    groups: str, tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    few = (*FEW, f"evaluation.metrics=[{groups}]", "evaluation.samples.number=100")
    mixed = ("hardware.precision=mixed_bfloat16", "dataset.limit=200")
    in_process("vae-run", *MLP, *mixed, *few, "hydra.run.dir=run", cwd=tmp_path)
    at_the_end = entries(tmp_path / "run")
    in_process("vae-evaluate", "run", *few, "--again", cwd=tmp_path)
    afterwards = entries(tmp_path / "run")
    if "samples" in groups:
        assert any("[classifier]" in name for name in afterwards["sample_quality"]["values"])
    for name, entry in afterwards.items():
        assert "refused" not in entry, entry
        assert (entry["values"], entry["notes"]) == (at_the_end[name]["values"], at_the_end[name]["notes"]), name


def test_a_run_on_a_folder_is_measured_without_labels_and_anew_after_a_resume(
    tmp_path: Path, in_process: InProcess, capsys: Said
) -> None:
    (tmp_path / "photos").mkdir()
    write_numbered(tmp_path / "photos", 40)
    photos = ("dataset=folder", "dataset.root=photos", "dataset.image_size=8", "data_dir=data")
    network = ("model=mlp", "model.width=16", "latent=2", "epochs=1", "figures=none")
    in_process("vae-run", *photos, *network, "hydra.run.dir=run", cwd=tmp_path)
    in_process("vae-evaluate", "run", *FEW, cwd=tmp_path)
    assert "Not measured: probes: the images have no labels" in capsys.readouterr().out
    before = entries(tmp_path / "run")
    assert "psnr" in before["reconstruction"]["values"]
    folder = tmp_path / "run" / "evaluation"
    results = [folder / f"kl_by_dimension{suffix}" for suffix in (".png", ".npz")]
    assert all(file.is_file() for file in results)
    in_process("vae-run", "resume=run", "evaluation=reconstruction", cwd=tmp_path)  # without another epoch
    assert all(file.is_file() for file in results)
    assert entries(tmp_path / "run") == before
    mine = [folder / name for name in ("mine.png", "notes.json", "codes.npz")]
    for file in mine:
        file.write_text("mine")
    in_process("vae-run", "resume=run", "epochs=2", "evaluation=none", cwd=tmp_path)
    assert [file.read_text() for file in mine] == ["mine"] * 3
    assert not any(file.exists() for file in (*results, folder / "metrics.json"))
    assert (folder / "embeddings.npz").is_file()
    assert StoredRun.open_finished(tmp_path / "run").evaluated == {}
    in_process("vae-evaluate", "run", "evaluation=reconstruction", cwd=tmp_path)
    assert entries(tmp_path / "run")["reconstruction"]["values"] != before["reconstruction"]["values"]


def test_a_run_that_was_trained_without_factors_is_given_them_later(
    tmp_path: Path, in_process: InProcess, refusal: Callable[..., str]
) -> None:
    (tmp_path / "photos").mkdir()
    write_numbered(tmp_path / "photos", 80)
    names = sorted(path.name for path in (tmp_path / "photos").iterdir())
    lines = [f"{name},{number % 2},{number // 2 % 2}" for number, name in enumerate(names)]
    (tmp_path / "factors.csv").write_text("\n".join(["file,odd,half", *lines]))
    photos = ("dataset=folder", "dataset.root=photos", "dataset.image_size=8", "dataset.test_fraction=0.5")
    network = ("model=mlp", "model.width=16", "latent=2", "epochs=1", "figures=none", "data_dir=data")
    in_process("vae-run", *photos, *network, "hydra.run.dir=run", cwd=tmp_path)
    keys = ("evaluation.metrics=[reconstruction,disentanglement]", "--factors", "factors.csv")
    in_process("vae-evaluate", "run", *keys, cwd=tmp_path)
    first, reconstruction = (entries(tmp_path / "run")[name] for name in ("mig", "reconstruction"))
    assert first["how"]["n"] == 40
    lines = [f"{name},{number // 40},{number // 20 % 2}" for number, name in enumerate(names)]
    (tmp_path / "factors.csv").write_text("\n".join(["file,odd,half", *lines]))
    in_process("vae-evaluate", "run", *keys, cwd=tmp_path)
    assert entries(tmp_path / "run")["mig"]["values"]["mig"] != first["values"]["mig"]
    assert entries(tmp_path / "run")["reconstruction"] == reconstruction  # with its seconds: it was not measured again
    (tmp_path / "factors.csv").write_text("file,odd\nnone.png,1\n")
    assert "factors.csv" in refusal("vae-evaluate", "run", *keys, cwd=tmp_path)
