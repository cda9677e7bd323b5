"""What `vae-run` leaves, seen from outside."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command

FINAL_FIGURES = {
    "latent_space",
    "samples_uniform",
    "samples_normal",
    "manifold",
    "traversals",
    "interpolations",
    "loss_curves",
}


def test_a_finished_run_has_the_designs_files(finished_run: Path) -> None:
    events = [path.name for path in finished_run.glob("events.out.tfevents.*")]
    ours = {"console.txt", "vae_runner_git.diff"}  # what it printed; changes in this checkout, if there are some
    names = {path.name for path in finished_run.iterdir()} - {*ours, *events}
    assert names == {
        *("run.json", "config.yaml", ".hydra", "metrics.csv", "vae-run.log"),
        *("train", "test", "projector", "projector_config.pbtxt"),
        *("models", "figures", "evaluation", "checkpoints", ".lock"),
    }
    assert {path.name for path in (finished_run / "models").iterdir()} == {
        *("weights.npz", "encoder.keras", "decoder.keras")
    }
    assert len(events) == 1
    assert not [path for path in finished_run.rglob("*") if "part" in path.name or "unfinished" in path.name]


def test_the_metrics_table_has_the_promised_columns_and_training_learns(finished_run: Path) -> None:
    with (finished_run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("epoch", "step", "train/loss", "train/reconstruction", "train/kl"),
        *("test/loss", "test/reconstruction", "test/kl", "learning_rate", "train/images_per_second", "seconds"),
    ]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [int(row["step"]) for row in rows] == [23, 46, 69]  # 1,438 images in batches of 64
    assert float(rows[-1]["train/loss"]) < 0.8 * float(rows[0]["train/loss"])
    for row in rows:
        total = float(row["train/reconstruction"]) + float(row["train/kl"])
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)


def test_run_json_tells_status_versions_hardware_and_final_metrics(finished_run: Path) -> None:
    info = json.loads((finished_run / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["versions"].keys() >= {"vae_runner", "tensorflow", "keras", "python"}
    assert info["hardware"]["device"] in ("cpu", "gpu")
    with (finished_run / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert info["metrics"]["test/loss"] == float(last["test/loss"])
    assert (info["models"]["epoch"], info["models"]["step"]) == (3, 69)
    assert "no validation images" in info["models"]["reason"]
    assert (finished_run / "console.txt").read_text().count(
        "Models: of epoch 3, the last: there are no validation"
    ) == 1


def test_run_json_tells_where_the_time_went(finished_run: Path) -> None:
    info = json.loads((finished_run / "run.json").read_text())
    timings = info["timings"]
    assert list(timings) == ["earlier", "preparation", "first_step", "training", "evaluation", "figures"]
    assert all(seconds > 0 for seconds in timings.values())
    assert sum(timings.values()) - timings["earlier"] < info["seconds"]


def test_figures_come_every_so_many_epochs_and_at_the_end(finished_run: Path) -> None:
    figures = finished_run / "figures"
    for name in ("samples", "reconstructions"):
        assert {path.name for path in (figures / name).iterdir()} == {"epoch_0002.png", "epoch_0003.png"}
    assert {path.stem for path in figures.glob("*.png")} == FINAL_FIGURES
    for path in figures.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.std() > 5, f"{path.name} shows nothing"


def test_without_a_terminal_there_is_one_line_an_epoch_and_the_summary(finished_run: Path) -> None:
    lines = (finished_run / "console.txt").read_text().splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 3
    assert epochs[0].startswith("epoch 1/3")
    assert "images/s" in epochs[0]
    assert any("Conv2DTranspose" in line and "8×8×1" in line for line in lines)
    assert any("MFLOP an image" in line for line in lines)
    assert lines[-1] == "Run directory: run"


@pytest.mark.slow
def test_the_same_command_gives_the_same_run(finished_run: Path, tmp_path: Path) -> None:
    arguments = ("epochs=2", "figures=none", "hardware.deterministic=true", "dataset.limit=200")
    tables = []
    for name in ("a", "b"):
        result = command("vae-run", *arguments, f"hydra.run.dir={name}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        tables.append([{k: v for k, v in row.items() if "second" not in k} for row in rows])
    assert tables[0] == tables[1]


def test_other_parts_can_be_chosen_together(tmp_path: Path) -> None:
    result = command(
        "vae-run",
        *("loss=ae", "model=mlp", "model.width=32", "optimizer=adamw", "schedule=cosine", "schedule.warmup_epochs=1"),
        *("hardware.xla=true", "hardware.precision=mixed_float16", "latent=3", "epochs=9", "dataset.limit=64"),
        *("dataset.validation_fraction=0.1", "early_stopping.metric=validation/loss", "early_stopping.patience=1"),
        *("early_stopping.min_delta=1000000", "figures=none", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2  # the first is the best, the second no better
    assert "validation/loss" in rows[0]
    assert "train/kl" not in rows[0]
    hardware = json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]
    assert hardware["xla"] is True
    assert hardware["precision"] == "mixed_float16"


def test_a_sweep_runs_every_combination_and_a_refused_one_does_not_stop_the_others(tmp_path: Path) -> None:
    result = command(
        "vae-run",
        *("-m", "model.filters=4,[1,2,3]", "seed=0,1", "epochs=1", "dataset.limit=64", "figures=none"),
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("vae-run: model.filters=[1, 2, 3] has 3 widths")
    assert "2 of 4 runs failed" in result.stderr
    runs = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("*/run.json")]
    assert sorted(run["status"] for run in runs) == ["failed", "failed", "finished", "finished"]


def test_a_users_own_yaml_and_class_work_like_ours(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.Mine\nweight: 3.0\n")
    (tmp_path / "my_loss.py").write_text(
        "import tensorflow as tf\n"
        "from vae_runner.losses.base import Loss\n"
        "class Mine(Loss):\n"
        "    terms = ('absolute',)\n"
        "    def __init__(self, weight):\n"
        "        self.weight = weight\n"
        "    def __call__(self, autoencoder, batch, training):\n"
        "        z = autoencoder.encode(batch.images, batch.labels, training).mean\n"
        "        decoded = autoencoder.decode(z, batch.labels, training).mean\n"
        "        error = tf.reduce_mean(tf.abs(batch.images - decoded))\n"
        "        return self.weight * error, {'absolute': error}\n"
    )
    result = command(
        "vae-run",
        *("--config-dir", "conf", "loss=mine", "epochs=1", "dataset.limit=64", "figures=none", "hydra.run.dir=run"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert "train/absolute" in (tmp_path / "run" / "metrics.csv").read_text()


def test_a_loss_that_stops_being_finite_ends_the_run_with_status_failed(tmp_path: Path) -> None:
    result = command(
        "vae-run",
        *("optimizer.learning_rate=1e30", "epochs=3", "dataset.limit=200", "figures=none", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "stopped being finite at step" in result.stderr
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "failed"
    assert "stopped being finite" in info["error"]


@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"], ["--info", "defaults-tree"]])
def test_questions_are_answered_without_importing_tensorflow(option: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['vae-run', *sys.argv[1:]]\n"
        "from vae_runner.cli.commands import run\n"
        "try:\n    run()\n"
        "finally:\n"
        "    heavy = {'tensorflow', 'keras', 'matplotlib', 'sklearn', 'rich'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *option], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "latent" in result.stdout or "dataset" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_refusal_imports_nothing_heavy_either(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['vae-run', 'latnt=3']\n"
        "from vae_runner.cli.commands import run\n"
        "try:\n    run()\n"
        "finally:\n"
        "    print({'tensorflow', 'keras', 'matplotlib', 'sklearn', 'rich'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stdout == "set()\n"


@pytest.mark.slow
def test_help_lists_the_config_groups_only_where_a_help_text_has_a_place_for_them(tmp_path: Path) -> None:
    counted = (
        "import sys; from hydra._internal.hydra import Hydra\n"
        "listed = []; original = Hydra.list_all_config_groups\n"
        "Hydra.list_all_config_groups = lambda *a, **o: (listed.append(a), original(*a, **o))[1]\n"
        "from vae_runner.cli.commands import run\n"
        "try:\n    run()\n"
        "finally:\n    print('listed', len(listed) > 0)\n"
    )

    def ask(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", counted, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return result.stdout

    assert "listed False" in ask("--help")
    listing = ask("--help", "hydra.help.template='Parts: $APP_CONFIG_GROUPS'")
    assert "dataset: cars3d, cartoon, digits" in listing
    assert "listed True" in listing


@pytest.mark.slow
def test_a_sweep_keeps_nothing_of_its_runs(tmp_path: Path) -> None:
    script = (
        "import gc, sys\n"
        "from vae_runner.cli.commands import run\n"
        "run()\n"
        "gc.collect()\n"
        "kept = {'FuncGraph', 'InnerLoop', 'Functional', 'Figure', 'OwnedIterator'}\n"
        "print('kept', sorted({type(o).__name__ for o in gc.get_objects()} & kept))\n"
    )
    arguments = ("-m", "seed=0,1", "epochs=1", "dataset.limit=64", "hydra.sweep.dir=sweep")
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env={**os.environ, "VAE_RUNNER_SWEEP": "1"},  # as the process that the runs are launched from
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "kept []"
    layers = [
        [layer["name"] for layer in _layers(file)] for file in (tmp_path / "sweep").glob("*/models/encoder.keras")
    ]
    assert layers[0] == layers[1], "a run's layers are named after those of the runs before"


def _layers(model: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(model) as file:
        return [layer["config"] for layer in json.loads(file.read("config.json"))["config"]["layers"]]


@pytest.mark.slow
def test_fashion_mnist_trains_from_the_real_files(real_data: Path, tmp_path: Path) -> None:
    result = command(
        "vae-run",
        *("dataset=fashion", f"dataset.root={real_data / 'fashion-mnist'}", "dataset.limit=512", "epochs=1"),
        *("model.filters=8", "figures.final={}", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "512 train, 512 test images of 28×28×1, 10 classes" in result.stdout
    assert (tmp_path / "run" / "figures" / "reconstructions" / "epoch_0001.png").exists()


@pytest.mark.slow
def test_the_cartoon_set_trains_from_the_real_files(real_data: Path, tmp_path: Path) -> None:
    arguments = (
        *("dataset=cartoon", f"dataset.root={real_data / 'cartoonset'}", "latent=20", "epochs=1", "batch_size=8"),
        *("model.filters=4", "hydra.run.dir=run"),
    )
    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "27 train, 3 test images of 256×256×3" in result.stdout
    assert "Preparing 30 images as 256×256×3" in result.stdout
    assert {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")} == FINAL_FIGURES - {"manifold"}
