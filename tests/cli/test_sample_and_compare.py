import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command
from vae_runner.cli.compare import compare
from vae_runner.evaluation.embeddings import decode, reconstruct
from vae_runner.experiment import load
from vae_runner.figures.comparison import comparison
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import write_info


def test_samples_are_a_picture_or_an_array_decided_by_the_seed(
    finished_run: Path, tmp_path: Path, in_process: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        in_process("vae-sample", finished_run, "-n", 5, "--out", f"{name}.npy", "--seed", seed, cwd=tmp_path)
        assert capsys.readouterr().out == f"5 images in {name}.npy\n"
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.dtype == np.uint8
    assert a.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()

    result = command("vae-sample", finished_run, "-n", 5, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert np.asarray(Image.open(tmp_path / "samples.png").convert("L")).std() > 10


def test_compare_draws_runs_side_by_side_and_writes_their_metrics(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("vae-run", "loss=ae", "epochs=1", "figures=none", f"hydra.run.dir={tmp_path / 'ae'}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = command("vae-compare", finished_run, "ae", "--out", "both.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "both.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss"], row["epoch"], row["run"]) for row in rows] == [
        ("vae", "3", str(finished_run)),
        ("ae", "1", "ae"),
    ]
    assert float(rows[0]["test/kl"]) > 0
    assert rows[1]["test/kl"] == ""
    assert "test/loss" in result.stdout
    width, height = Image.open(tmp_path / "both.png").size
    assert width > 1000
    assert height > 1000
    check_what_is_drawn([finished_run, tmp_path / "ae"], tmp_path / "again.png", monkeypatch)


def check_what_is_drawn(paths: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run's column is of that run: its embeddings, its networks' images, its metrics."""
    drawn: list[Any] = []
    monkeypatch.setattr("vae_runner.cli.compare.comparison", lambda *given: drawn.extend(given) or comparison(*given))
    compare(paths, out, [])
    images, names, columns = drawn
    assert names == [str(number) for number in range(10)]
    for path, column in zip(paths, columns, strict=True):
        run = RunDirectory.open_finished(path)
        autoencoder = load(run)
        np.testing.assert_array_equal(images, np.load(path / "evaluation" / "test_images.npz")["images"][:8])
        assert column.name == str(path)
        assert column.about.startswith("ae, 2-D" if path.name == "ae" else "vae, 2-D")
        assert column.about.endswith(f"test loss {run.info['metrics']['test/loss']:.2f}")
        assert column.metrics == {
            **run.info["metrics"],
            "seconds": run.info["seconds"],
        }  # of the run, not its last epoch
        np.testing.assert_array_equal(column.embeddings, run.embeddings[0])
        np.testing.assert_allclose(column.reconstructions, reconstruct(autoencoder, images), atol=1e-5)
        z = np.random.default_rng(0).standard_normal((32, 2), np.float32)
        np.testing.assert_allclose(column.samples, decode(autoencoder, z), atol=1e-5)


def test_a_run_directory_alone_is_enough(
    finished_run: Path, tmp_path: Path, in_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run, tmp_path / "moved")
    monkeypatch.setenv("VAE_RUNNER_DATA", "/nowhere")
    in_process("vae-compare", "moved", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vae-sample", ["nowhere"], "nowhere does not exist"),
        ("vae-sample", ["."], "is no run directory"),
        ("vae-sample", ["failed"], "is not finished, but failed: vae-run resume="),
        ("vae-sample", ["RUN", "--out", "x.gif"], "must end in .png"),
        ("vae-sample", ["RUN", "--out", "no/folder/x.png"], "there is no folder no/folder"),
        ("vae-sample", ["RUN", "-n", "0"], "0 is not a whole number of at least 1"),
        ("vae-sample", ["RUN", "--sed", "1"], "there is no option '--sed'. Did you mean '--seed'?"),
        ("vae-sample", [], "the following arguments are required: RUN"),
        ("vae-compare", ["RUN", "failed"], "not finished"),
        ("vae-compare", ["RUN", "other"], "other test images"),
        ("vae-compare", ["damaged"], "models/weights.npz cannot be used"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    name: str, arguments: list[str], message: str, finished_run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    write_info(tmp_path / "failed" / "run.json", {"status": "failed"})
    shutil.copytree(finished_run, tmp_path / "damaged")
    (tmp_path / "damaged" / "models" / "weights.npz").write_bytes(b"damaged")
    shutil.copytree(finished_run, tmp_path / "other")
    kept = dict(np.load(tmp_path / "other" / "evaluation" / "test_images.npz"))
    np.savez(tmp_path / "other" / "evaluation" / "test_images.npz", **{**kept, "images": kept["images"] + 1})
    before = sorted(tmp_path.rglob("*"))

    assert message in refusal(name, *[finished_run if a == "RUN" else a for a in arguments], cwd=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
