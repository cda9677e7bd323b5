"""What becomes of a run, or a sweep, when its images have moved, and when they are others."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_sweep import rows
from tests.conftest import command
from tests.datasets.conftest import write_numbered
from vae_runner.files.atomic import write_atomic
from vae_runner.training.checkpoints import Checkpoint

SHORT = ("batch_size=8", "model.filters=4", "figures=none", "latent=2")
FOLDER = ("dataset=folder", "dataset.image_size=8", "dataset.test_fraction=0.2", *SHORT)
PICTURES = 20


def info(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


def epochs(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, and run/, a run of one epoch on them that was given relative folders."""
    folder = tmp_path_factory.mktemp("begun")
    write_numbered(folder / "photos", PICTURES)
    arguments = (*FOLDER, "dataset.root=photos", "epochs=1", "hydra.run.dir=run")
    result = command("vae-run", *arguments, cwd=folder, VAE_RUNNER_DATA="data")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, of which the configuration leads to the pictures of the original; those stay as they are."""
    shutil.copytree(begun, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_keeps_what_its_images_were_and_where(begun: Path) -> None:
    assert f"root: {begun / 'photos'}\n" in (begun / "run" / "config.yaml").read_text()
    assert f"data_dir: {begun / 'data'}\n" in (begun / "run" / "config.yaml").read_text()
    data = info(begun / "run")["data"]
    assert {name: split["images"] for name, split in data.items()} == {"train": 16, "test": 4}
    newest = max((begun / "run" / "checkpoints").iterdir())
    assert Checkpoint.from_bytes(newest.read_bytes()).data == data


def test_a_run_goes_on_from_another_folder_and_with_its_images_moved(folder: Path) -> None:
    (folder / "photos").rename(folder / "moved")
    for picture in (folder / "moved").iterdir():
        os.utime(picture, (1, 1))
    (folder / "elsewhere").mkdir()
    arguments = ("resume=../run", "epochs=2", "dataset.root=../moved", "data_dir=../data")
    result = command("vae-run", *arguments, cwd=folder / "elsewhere")
    assert result.returncode == 0, result.stderr
    assert f"root: {folder / 'moved'}\n" in (folder / "run" / "config.yaml").read_text()
    assert epochs(folder / "run") == ["1", "2"]


def test_images_that_are_gone_are_asked_for(folder: Path, begun: Path, refusal: Callable[..., str]) -> None:
    (begun / "photos").rename(begun / "away")
    try:
        said = refusal("vae-run", "resume=run", "epochs=2", cwd=folder)
    finally:
        (begun / "away").rename(begun / "photos")
    assert f"dataset.root={begun / 'photos'} does not exist: give the folder the images are in" in said
    said = refusal("vae-run", "resume=run", "epochs=2", "dataset.root=[a,b]", cwd=folder)
    assert "dataset.root: Cannot convert 'ListConfig' to string" in said


def add(photos: Path) -> None:
    shutil.copyfile(photos / "00.png", photos / "zzz.png")


def replace(photos: Path) -> None:
    first, *_, last = sorted(photos.iterdir())
    shutil.copyfile(first, last)


@pytest.mark.parametrize(
    ("change", "message"),
    [(add, "train: 16 images then, 17 now"), (replace, ": the same number, "), (shutil.rmtree, "does not exist")],
    ids=["one more", "another", "none"],
)
def test_other_images_are_refused_by_name_and_the_run_stays_as_it_was(
    change: Callable[[Path], None], message: str, folder: Path, refusal: Callable[..., str]
) -> None:
    change(folder / "photos")
    kept = ("metrics.csv", "models/weights.npz", "models/encoder.keras", "config.yaml")
    before = {name: (folder / "run" / name).read_bytes() for name in kept}
    known = info(folder / "run")["data"]
    said = refusal("vae-run", "resume=run", "epochs=2", "dataset.root=photos", "data_dir=data", cwd=folder)
    assert message in said
    if change is not shutil.rmtree:
        assert "run was trained on other images (" in said
        assert "bring those back, say with dataset.root= where they are, or start a new run" in said
    assert {name: (folder / "run" / name).read_bytes() for name in kept} == before
    assert (info(folder / "run")["status"], info(folder / "run")["data"]) == ("finished", known)


@pytest.mark.slow
def test_a_run_from_before_images_were_known_goes_on_and_knows_them_from_then(folder: Path) -> None:
    newest = max((folder / "run" / "checkpoints").iterdir())
    checkpoint = Checkpoint.from_bytes(newest.read_bytes())
    checkpoint.data.clear()
    write_atomic(newest, checkpoint.to_bytes())
    add(folder / "photos")
    result = command("vae-run", "resume=run", "epochs=2", "dataset.root=photos", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "other images" not in result.stdout
    assert info(folder / "run")["data"]["train"]["images"] == 17
    newest = max((folder / "run" / "checkpoints").iterdir())
    assert Checkpoint.from_bytes(newest.read_bytes()).data == info(folder / "run")["data"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lies_in"), [("fashion", "fashion-mnist"), ("mnist", "mnist"), ("cartoon", "cartoonset")]
)
def test_every_dataset_goes_on_with_its_files_elsewhere(
    name: str, lies_in: str, real_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "here").symlink_to(real_data / lies_in)
    size = ("dataset.image_size=16",) if name == "cartoon" else ("dataset.limit=24",)
    arguments = (f"dataset={name}", *size, *SHORT, "epochs=1", "dataset.root=here", "hydra.run.dir=run")
    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (tmp_path / "here").rename(tmp_path / "there")
    result = command("vae-run", "resume=run", "epochs=2", "dataset.root=there", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"root: {tmp_path / 'there'}\n" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_a_sweep_calls_finished_runs_of_other_images_outdated_and_the_others_go_on(tmp_path: Path) -> None:
    write_numbered(tmp_path / "photos", PICTURES)

    def sweep(latents: str, root: str) -> tuple[int, str, str]:
        arguments = ("-m", *FOLDER[:-1], "epochs=1", f"latent={latents}", f"dataset.root={root}", "sweep.dir=sweep")
        result = command("vae-run", *arguments, cwd=tmp_path)
        return result.returncode, result.stdout, result.stderr

    def statuses() -> dict[str, str]:
        return {row["latent"]: row["status"] for row in rows(tmp_path / "sweep")}

    code, _, told = sweep("2", "photos")
    assert code == 0, told
    add(tmp_path / "photos")
    code, said, told = sweep("2,3", str(tmp_path / "photos"))  # the same folder, written in another way
    assert code == 2
    assert said.count("was trained on other images (train: 16 images then, 17 now") == 1
    assert "is finished already" not in said
    assert "(1 of 2 runs did not finish; the same command with sweep.dir=sweep continues it then)" in told
    assert len(told.splitlines()) == 1
    assert statuses() == {"2": "outdated", "3": "finished"}

    (tmp_path / "photos" / "zzz.png").unlink()
    code, said, _ = sweep("2", "./photos/")
    assert (code, said.count("is finished already")) == (0, 1)
    assert statuses() == {"2": "finished", "3": "finished"}
