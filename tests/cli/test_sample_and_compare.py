import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command


def test_samples_are_a_picture_or_an_array_decided_by_the_seed(finished_run: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = command("vae-sample", finished_run, "-n", 5, "--out", f"{name}.npy", "--seed", seed, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"5 images in {name}.npy\n"
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.dtype == np.uint8
    assert a.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()

    result = command("vae-sample", finished_run, "-n", 5, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert np.asarray(Image.open(tmp_path / "samples.png").convert("L")).std() > 10


def test_compare_draws_runs_side_by_side_and_writes_their_metrics(finished_run: Path, tmp_path: Path) -> None:
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


def test_a_run_directory_alone_is_enough(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "moved")
    result = command("vae-compare", "moved", cwd=tmp_path, VAE_RUNNER_DATA="/nowhere")
    assert result.returncode == 0, result.stderr


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
        ("vae-compare", ["damaged"], "cannot be loaded"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    name: str, arguments: list[str], message: str, finished_run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "run.json").write_text('{"status": "failed"}')
    shutil.copytree(finished_run, tmp_path / "damaged")
    (tmp_path / "damaged" / "models" / "decoder.keras").write_bytes(b"damaged")
    shutil.copytree(finished_run, tmp_path / "other")
    kept = dict(np.load(tmp_path / "other" / "evaluation" / "test_images.npz"))
    np.savez(tmp_path / "other" / "evaluation" / "test_images.npz", **{**kept, "images": kept["images"] + 1})
    before = sorted(tmp_path.rglob("*"))

    assert message in refusal(name, *[finished_run if a == "RUN" else a for a in arguments], cwd=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
