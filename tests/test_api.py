"""`import vae_runner as vr`: train, load, and arrays through a finished run; and the notebook of the documents."""

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import vae_runner as vr
from tests.conftest import REPOSITORY
from vae_runner.api import _overrides
from vae_runner.cli.composing import composed
from vae_runner.cli.main import _next_folder
from vae_runner.datasets import digits

SMALL = ("model=mlp", "figures=none")
FEW = {"dataset": {"limit": 40}, "model": {"width": 8}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> vr.Run:
    """A run that this process has trained, where TensorFlow had been imported and used."""
    assert float(tf.constant(1.0)) == 1
    directory = tmp_path_factory.mktemp("trained") / "run"
    return vr.train(*SMALL, epochs=2, loss={"kl_weight": 0.5}, directory=directory, **FEW)


def images(count: int) -> np.ndarray:
    """Test images of the digits, uint8 `[count, 8, 8]`."""
    return np.asarray(digits.load(test_fraction=0.2).test.images[:count])[..., 0]


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, vae_runner as vr\n"
        "assert issubclass(vr.UserError, Exception) and not hasattr(vr, 'trian')\n"
        "print({'tensorflow', 'keras', 'matplotlib', 'sklearn', 'rich', 'hydra'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == "set()\n", result.stderr
    assert set(vr.__all__) <= set(dir(vr))


def test_none_of_tensorflows_log_lines_are_shown_and_a_run_may_be_named_from_where_one_is(trained: vr.Run) -> None:
    script = (
        "import vae_runner as vr; run = vr.load('run'); print(run.path, run.sample(1).shape)\n"
        "import tensorflow as tf\n"
        "list(tf.data.Dataset.from_generator(lambda: iter([1]), output_types=tf.int32))\n"
    )
    folder, variables = trained.path.parent, {**os.environ, "TF_CPP_MIN_LOG_LEVEL": ""}
    script += "import os; assert os.environ['TF_CPP_MIN_LOG_LEVEL'] == ''"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert (shown.stdout, shown.stderr) == (f"{trained.path} (1, 8, 8, 1)\n", "")


def test_tensorflows_log_lines_are_shown_where_they_are_asked_for() -> None:
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "CUDA_VISIBLE_DEVICES": "-1"}
    script = [sys.executable, "-c", "import vae_runner as vr; vr.load"]
    shown = subprocess.run(script, env=variables, capture_output=True, text=True, check=True)
    assert re.search(r"^.*\.cc:\d+\] ", shown.stderr, re.MULTILINE)  # file and line of its code


def test_texts_come_to_the_run_as_they_are_written(tmp_path: Path) -> None:
    texts = ["https://a//b", "", "O'Brien", "a,b", "null", "5"]
    assert list(composed(_overrides((), {"trust": texts})).trust) == texts


def test_a_run_is_repeated(trained: vr.Run, tmp_path: Path) -> None:
    again = vr.train(f"rerun={trained.path}", directory=tmp_path / "again")
    assert again.config.loss.kl_weight == 0.5
    np.testing.assert_array_equal(np.asarray(again.metrics["test/loss"]), np.asarray(trained.metrics["test/loss"]))


def test_the_runs_below_a_folder_are_listed_without_tensorflow(trained: vr.Run) -> None:
    (record,) = vr.runs(str(trained.path.parent))
    assert (record.path, record.status, record.dataset) == (trained.path, "finished", "digits")
    assert vr.load(record).path == trained.path
    assert record.settings["loss.kl_weight"] == 0.5
    folder = str(trained.path.parent)
    script = f"import sys, vae_runner as vr; assert vr.runs({folder!r}); print('tensorflow' in sys.modules)"
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert listed.stdout == "False\n"


def test_a_run_is_trained_as_the_command_does_it(trained: vr.Run) -> None:
    assert (trained.config.latent, trained.config.loss.kl_weight, trained.config.dataset.limit) == (2, 0.5, 40)
    info = json.loads((trained.path / "run.json").read_text())
    assert (info["status"], info["epoch"]) == ("finished", 2)
    log = (trained.path / "vae-run.log").read_text()
    assert "[vae_runner." in log
    assert (
        (trained.path / ".hydra" / "overrides.yaml").read_text().startswith("- model=mlp\n- figures=none\n- epochs=2\n")
    )
    assert (trained.path / "models" / "encoder.keras").exists()


def test_a_second_run_leaves_this_process_as_it_was_and_may_be_continued(tmp_path: Path) -> None:
    def state() -> list[object]:
        logger = logging.getLogger("vae_runner")
        return [
            *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
            *(keras.config.dtype_policy().name, matplotlib.rcParams["lines.linewidth"]),
            *(logger.level, logger.handlers[:], Path.cwd(), sys.argv[:]),
            *(random.getstate(), np.random.get_state()[1].tolist()),  # type: ignore[index,union-attr] # noqa: NPY002
        ]

    matplotlib.rcParams["lines.linewidth"] = 7
    before = state()
    try:
        mixed = {"precision": "mixed_bfloat16"}
        run = vr.train(*SMALL, epochs=1, hardware=mixed, directory=tmp_path / "run", **FEW)
        run.evaluate("evaluation=reconstruction")
        assert state() == before
    finally:
        matplotlib.rcdefaults()
    assert run.config.hardware.precision == "mixed_bfloat16"
    again = vr.train(f"resume={tmp_path / 'run'}", epochs=2)
    assert len(again.metrics["epoch"]) == 2


def test_a_run_may_be_trained_in_a_thread_inside_of_a_hydra_application(tmp_path: Path) -> None:
    runs: list[vr.Run] = []
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        arguments = {"epochs": 1, "directory": tmp_path / "run", **FEW}
        thread = threading.Thread(target=lambda: runs.append(vr.train(*SMALL, **arguments)))  # type: ignore[arg-type]
        thread.start()
        thread.join()
        assert compose("config", ["latent=7"]).latent == 7
    assert [len(run.metrics["epoch"]) for run in runs] == [1]


@pytest.mark.parametrize(
    ("overrides", "keywords", "message"),
    [
        (["latnt=3"], {}, "latnt"),
        ([], {"latent": -1}, "latent=-1"),
        ([], {"dataset": "digit"}, "digits"),
        (["-m"], {}, "-m is no override"),
        (["latent=2,8"], {}, "latent=2,8: several values are a sweep: only vae-run -m does that"),
        (["sweep.dir=x"], {}, "sweep.dir=x is for a sweep: only vae-run -m does that"),
        ([], {"resume": "O'Brien's"}, "O'Brien's does not exist"),
        ([], {"dataset": {"limit": None, "test_fraction": 1.0}}, "dataset.test_fraction"),
        ([], {"dataset": "folder"}, "dataset.root is not given"),
        (["resume=nowhere"], {}, "nowhere does not exist"),
    ],
)
def test_what_makes_no_sense_is_a_user_error_and_leaves_nothing(
    overrides: list[str], keywords: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    OmegaConf.register_new_resolver("next_folder", _next_folder, replace=True)  # as a command in this process leaves it
    with pytest.raises(vr.UserError) as refused:
        vr.train(*overrides, **keywords)  # type: ignore[arg-type]
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_not_there_is_refused() -> None:
    for call in (lambda: vr.load("~nobody.here/run"), lambda: vr.train(*SMALL, directory="~nobody.here/run")):
        with pytest.raises(vr.UserError, match="there is no home that ~ could stand for"):
            call()


def test_python_values_are_written_as_hydra_reads_them(tmp_path: Path) -> None:
    values = {
        "data_dir": tmp_path / "it's, here", "init_parts": ["encoder", "decoder"], "trust": ("a",), "seed": np.int64(3),
        "early_stopping": {"metric": None}, "dataset": {"augment": {"flip": True}},
        "optimizer": {"learning_rate": 1e-5}, "likelihood": "bernoulli",
    }  # fmt: skip
    config = composed(_overrides(["dataset=mnist"], values))
    assert config.data_dir == str(tmp_path / "it's, here")
    assert (config.init_parts, config.trust, config.seed) == (["encoder", "decoder"], ["a"], 3)
    assert config.early_stopping.metric is None
    assert config.dataset.augment.flip is True
    assert config.optimizer.learning_rate == 1e-5
    assert "bernoulli" in config.likelihood._target_
    assert _overrides((), {"likelihood": "bernoulli"}) == ["likelihood=bernoulli"]  # which run.json repeats


@pytest.mark.parametrize("text", ["/a,b", "null", "5", "[a]", " a", "'a'", "~/a", "é", "a=b", ""])
def test_a_text_is_a_text_whatever_hydra_would_read(text: str) -> None:
    assert composed(_overrides((), {"data_dir": text})).data_dir == text


def test_arrays_go_through_a_run(finished_run: Path) -> None:
    run = vr.load(str(finished_run))
    grey = images(40)
    means = run.encode(grey)
    np.testing.assert_allclose(means, np.load(finished_run / "evaluation/embeddings.npz")["mean"][:40], atol=1e-4)
    np.testing.assert_array_equal(run.encode(grey[..., np.newaxis]), means)
    draws = run.encode(grey, draws=3, seed=1)
    assert draws.shape == (40, 3, 2)
    np.testing.assert_array_equal(run.encode(grey, draws=3, seed=1), draws)
    assert (run.encode(grey, draws=3, seed=2) != draws).any()
    reconstructed = run.reconstruct(grey)
    assert (reconstructed.dtype, reconstructed.shape) == (np.uint8, (40, 8, 8, 1))
    np.testing.assert_array_equal(run.decode(means), reconstructed)
    error = np.abs(reconstructed[..., 0].astype(int) - grey).mean()
    assert error < np.abs(grey.mean(axis=0) - grey).mean()
    samples = run.sample(5, seed=3)
    assert samples.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(run.sample(5, seed=3), samples)
    assert repr(run) == f"Run('{finished_run}')"
    assert run.class_names == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.encode(images(2) / 255), "the images are float64 of shape (2, 8, 8, 1): "),
        (lambda run: run.encode(np.zeros((2, 9, 8), np.uint8)), "takes uint8 [n, 8, 8, 1], at least one"),
        (lambda run: run.encode(images(0)), "at least one"),
        (lambda run: run.encode(images(2), labels=3), "does not depend on classes"),
        (lambda run: run.decode(np.zeros((2, 3))), "takes numbers [n, 2], at least one"),
        (lambda run: run.evaluate("latent=3"), "vae-evaluate takes evaluation=…"),
        (lambda run: vr.load(run.path / "models"), "is no run directory"),
        (lambda run: run.sample(-1), "the number of images is -1: give a whole number of at least 1"),
        (lambda run: run.sample(1.5), "the number of images is 1.5"),  # type: ignore[arg-type]
        (lambda run: run.sample(2, seed=-1), "the seed is -1"),
        (lambda run: run.encode(images(2), draws=-2), "draws is -2: give a whole number of at least 0"),
        (lambda run: run.encode([[1, 2], [3]]), "the images are no array"),
        (lambda run: run.decode([[np.nan, 2.0]]), "some of the latents are NaN or infinite"),
        (lambda run: run.decode([[1.0, 2.0], [3.0]]), "the latents are no array"),
    ],
)
def test_arrays_of_another_kind_are_refused(call: Callable[[vr.Run], object], message: str, trained: vr.Run) -> None:
    with pytest.raises(vr.UserError) as refused:
        call(trained)
    assert message in str(refused.value)


def test_latents_of_a_prior_whose_weights_are_nan_are_refused_as_the_runs(trained: vr.Run) -> None:
    prior = SimpleNamespace(sample=lambda noise: tf.fill((2, 2), np.nan))
    autoencoder = SimpleNamespace(latent_prior=lambda labels: prior, classes=0)
    diverged = vr.Run(replace(trained._model, autoencoder=autoencoder))  # type: ignore[arg-type]
    with pytest.raises(vr.UserError, match="makes latents of values that are not finite: its weights are NaN"):
        diverged.sample(2)


def test_a_table_of_metrics_without_rows_is_damaged(trained: vr.Run, tmp_path: Path) -> None:
    run = vr.load(shutil.copytree(trained.path, tmp_path / "run"))
    table = run.path / "metrics.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(vr.UserError, match=r"metrics\.csv has no rows: the run directory is damaged"):
        _ = run.metrics


def test_a_run_is_measured_and_keeps_what_was_found(trained: vr.Run) -> None:
    values = trained.evaluate(evaluation="reconstruction")
    assert values
    assert all(np.isfinite(value) for value in values.values())
    stored = {name.removeprefix("evaluation/"): value for name, value in trained._model.run.evaluated.items()}
    assert stored == values


def test_metrics_are_columns_or_a_data_frame_where_there_is_pandas(
    trained: vr.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    columns = trained.metrics
    assert columns["epoch"].tolist() == [1, 2]
    assert columns["test/loss"].shape == (2,)
    pandas = ModuleType("pandas")
    pandas.DataFrame = lambda columns: ("frame", columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    kind, given = trained.metrics
    assert kind == "frame"
    assert given.keys() == columns.keys()


def test_the_notebook_of_the_documents_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((REPOSITORY / "docs" / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 8
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), names)
    shown = names["variations"], names["path"]
    assert all(isinstance(of, np.ndarray) and of.shape == (10, 8, 8, 1) for of in shown)
    assert len(list(tmp_path.glob("outputs/*/*/run.json"))) == 1
