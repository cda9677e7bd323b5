"""What a finished run leaves with `checkpoint.models`, `profile` and `figures.animation`, also a resumed one."""

import csv
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from tests.conftest import command
from vae_runner.figures.animation import COLUMNS, ROWS, SIDE

EPOCHS = 5
KEYS = (  # The rate is so high that the loss soon rises again.
    *("dataset.limit=400", "batch_size=16", "model=mlp", "model.width=8", "hardware.deterministic=true"),
    *("optimizer.learning_rate=0.3", "optimizer.ema=0.5", "dataset.validation_fraction=0.2"),
    *("figures=none", "figures.animation=true", "checkpoint.models=both", "checkpoint.keep=1"),
)


def vae_run(*arguments: str, cwd: Path) -> None:
    result = command("vae-run", *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr


def weights(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def metrics(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("epoch", "step")}


def info(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five epochs, with a profile."""
    folder = tmp_path_factory.mktemp("whole")
    vae_run(*KEYS, f"epochs={EPOCHS}", "profile=true", "hydra.run.dir=run", cwd=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, which ended after two epochs and was resumed, without a profile."""
    folder = tmp_path_factory.mktemp("parts")
    vae_run(*KEYS, "epochs=2", "hydra.run.dir=run", cwd=folder)
    vae_run("resume=run", f"epochs={EPOCHS}", cwd=folder)
    return folder / "run"


def test_the_models_and_the_metrics_are_of_the_best_epoch_and_the_last_ones_lie_beside_them(whole: Path) -> None:
    best, told = min(rows(whole), key=lambda row: row["validation/loss"]), info(whole)
    assert best["epoch"] < EPOCHS, "the best is another one than the last, or nothing is shown"
    assert (told["models"]["epoch"], told["models_last"]["epoch"], told["epoch"]) == (best["epoch"], EPOCHS, EPOCHS)
    assert told["metrics"] == metrics(best)
    line = f"Models: of epoch {best['epoch']:.0f}, in which validation/loss was lowest"
    assert (whole / "vae-run.log").read_text().count(line) == 1

    for models, row in (("models", best), ("models_last", rows(whole)[-1])):
        checkpoint = weights(whole / "checkpoints" / f"step_{row['step']:010.0f}.npz")
        averages = [value for name, value in checkpoint.items() if name.startswith("averages/")]
        stored = weights(whole / models / "weights.npz")
        for name in ("encoder/0", "decoder/0"):
            assert any(np.array_equal(stored[name], average) for average in averages), (models, name)
        assert (whole / models / "decoder.keras").is_file()


def test_a_resumed_run_trains_on_from_the_last_epoch_and_leaves_the_same(whole: Path, parts: Path) -> None:
    for models in ("models", "models_last"):
        assert_same_weights(parts / models / "weights.npz", whole / models / "weights.npz")
    assert info(parts)["models"] == info(whole)["models"]


def test_a_finished_run_can_be_given_the_models_of_another_epoch(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    vae_run("resume=run", "checkpoint.models=last", "profile=false", cwd=tmp_path)
    assert not (tmp_path / "run" / "models_last").exists()
    assert_same_weights(tmp_path / "run" / "models" / "weights.npz", whole / "models_last" / "weights.npz")
    assert info(tmp_path / "run")["metrics"] == metrics(rows(whole)[-1])


@pytest.mark.slow
def test_a_run_whose_best_checkpoint_is_gone_takes_the_last_and_says_so(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / f"step_{info(whole)['models']['step']:010d}.npz").unlink()
    vae_run("resume=run", "checkpoint.models=best", cwd=tmp_path)
    told = info(tmp_path / "run")["models"]
    assert told["epoch"] == EPOCHS
    assert told["reason"].startswith("the last: there is no checkpoint of epoch ")


def test_a_profile_of_twenty_steps_lies_beside_the_scalars(whole: Path, parts: Path) -> None:
    """The runs are the same, so it changes no result."""
    (file,) = (whole / "plugins" / "profile").glob("*/*.xplane.pb")
    steps = [
        plane.event_metadata[event.metadata_id].name
        for plane in XSpace.FromString(file.read_bytes()).planes
        for line in plane.lines
        for event in line.events
        if any(plane.stat_metadata[stat.metadata_id].name == "step_num" for stat in event.stats)
    ]
    assert steps == ["train"] * 20
    assert [row["train/loss"] for row in rows(whole)] == [row["train/loss"] for row in rows(parts)]


def frames(file: Path) -> list[np.ndarray]:
    pictures = []
    with Image.open(file) as animation:
        assert animation.info["loop"] == 0
        for number in range(animation.n_frames):
            animation.seek(number)
            pictures.append(np.asarray(animation.convert("L")))
    return pictures


def test_an_animation_has_a_frame_of_each_epoch_also_of_those_before_a_run_was_resumed(
    whole: Path, parts: Path
) -> None:
    ours, theirs = (frames(run / "figures" / "samples.gif") for run in (whole, parts))
    assert len(ours) == EPOCHS
    assert ours[0].shape == (ROWS * SIDE, COLUMNS * SIDE)
    np.testing.assert_array_equal(ours, theirs)
    for one, other in itertools.pairwise(ours):
        assert np.abs(one.astype(int) - other).max() > 0
