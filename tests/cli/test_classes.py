"""Runs that depend on the images' classes: trained, resumed, sampled from, and refused where there are none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import command, mostly_slow
from tests.test_combinations import built
from vae_runner.api import Run
from vae_runner.datasets import digits
from vae_runner.errors import UserError
from vae_runner.experiment import load
from vae_runner.models.variables import Variables
from vae_runner.storage.stored_run import StoredRun
from vae_runner.stored_model import StoredModel

NETWORK = """\
import keras
from vae_runner.models import mlp


def build(image_shape, latent, posterior, likelihood):
    return mlp.build(image_shape, latent, posterior, likelihood)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional run on the digits, with all figures."""
    folder = tmp_path_factory.mktemp("conditional")
    small = ("model=mlp", "model.width=64", "epochs=8", "optimizer.learning_rate=2e-3")
    result = command("vae-run", "method=cvae", "dataset=digits", *small, "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


def test_samples_of_a_class_look_like_the_images_of_that_class(
    run: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    dataset = digits.load(test_fraction=0.2)
    images, labels = np.asarray(dataset.train.images, np.float32), dataset.train.labels
    means = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    nearest = []
    for label in range(10):
        in_process("vae-sample", run, "--label", label, "-n", 32, "--out", "one.npy", cwd=tmp_path)
        mean = np.load(tmp_path / "one.npy").mean(axis=0)
        nearest.append(np.square(means - mean).sum(axis=(1, 2, 3)).argmin())
    assert sum(np.array(nearest) == np.arange(10)) >= 9, nearest
    in_process("vae-sample", run, "-n", 320, "--out", "all.npy", cwd=tmp_path)  # the classes in turn
    in_turn = np.load(tmp_path / "all.npy").reshape(32, 10, 8, 8, 1).mean(axis=0)
    nearest = [np.square(means - mean).sum(axis=(1, 2, 3)).argmin() for mean in in_turn]
    assert sum(np.array(nearest) == np.arange(10)) >= 9, nearest


def test_pictures_of_samples_and_comparisons_are_drawn(
    run: Path, tmp_path: Path, in_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("vae_runner.cli.sample.save_figure", lambda figure, out: drawn.append(figure))
    in_process("vae-sample", run, "--label", "3", "-n", 4, cwd=tmp_path)
    in_process("vae-sample", run, "-n", 12, cwd=tmp_path)
    of_one, of_all = drawn
    assert of_one.get_suptitle() == "4 samples of class 3, z ~ N(0, I)"
    assert [text.get_text() for text in of_all.axes[0].texts] == [str(number % 10) for number in range(12)]
    in_process("vae-compare", run, cwd=tmp_path)
    assert (tmp_path / "compare.png").exists()


def test_a_stored_run_says_how_many_classes_it_is_of_and_one_without_labels_says_nothing(
    run: Path, finished_run: Path
) -> None:
    assert load(StoredRun.open_finished(run)).classes == 10
    assert StoredRun.open_finished(run).weights["classes"] == 10
    assert "classes" not in StoredRun.open_finished(finished_run).weights
    assert load(StoredRun.open_finished(finished_run)).classes == 0


def test_a_number_is_a_class_and_a_text_its_name_also_where_the_names_are_digits(run: Path) -> None:
    model = StoredModel.open(run)
    names = model.__dict__["class_names"] = [str(number) for number in range(1, 11)]  # as folders may be called
    assert model.labels([0, np.int64(1), "1", "10", "0"], 5).tolist() == [0, 1, 0, 9, 0]  # type: ignore[union-attr]
    assert model.labels(np.array(3), 2).tolist() == model.labels("4", 2).tolist() == [3, 3]  # type: ignore[union-attr]
    in_turn, named = Run(model).sample(20, seed=1), Run(model).sample(20, labels=names * 2, seed=1)
    np.testing.assert_array_equal(in_turn, named)
    for wrong in (3.0, -1, 10, "11", [0, 1.5]):
        with pytest.raises(UserError, match="there is no such class"):
            model.labels(wrong, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RUN", "--label", "ten"), "label ten: there is no such class. The run has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        (("RUN", "--label", "10"), "label 10: there is no such class. Did you mean '1'?"),
        (("FINISHED", "--label", "3"), "does not depend on classes: leave it out, or train with model.conditional="),
    ],
)
def test_a_class_that_a_run_does_not_have_is_refused(
    arguments: tuple[str, ...],
    message: str,
    run: Path,
    finished_run: Path,
    tmp_path: Path,
    refusal: Callable[..., str],
) -> None:
    places = {"RUN": run, "FINISHED": finished_run}
    assert message in refusal("vae-sample", *(places.get(a, a) for a in arguments), cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    mostly_slow(
        [
            ("method=class_prior", "loss.free_bits=0.1"),
            ("method=rae_gp", "model.conditional=true", "loss.gradient_penalty=0.1"),
            ("method=dreg_iwae", "prior=class_conditional"),
            ("method=wae_mmd", "prior=class_conditional"),
        ]
    ),
    ids=str,
)
def test_losses_with_more_passes_give_these_their_labels_too(arguments: tuple[str, ...]) -> None:
    result = built(*arguments).trainer.run_epoch(lambda progress: None)
    assert all(np.isfinite(value) for value in result.metrics.values()), result.metrics


def test_a_conditional_run_is_resumed_to_the_last_bit() -> None:
    whole, first, resumed = (built("method=class_prior", "epochs=2") for _ in range(3))
    for _ in range(2):
        whole.trainer.run_epoch(lambda progress: None)
        whole.trainer.next_epoch()
    first.trainer.run_epoch(lambda progress: None)
    first.trainer.next_epoch()
    resumed.state.restore(first.state.capture()[1])
    resumed.trainer.run_epoch(lambda progress: None)
    for name, value in Variables(whole.autoencoder.parts).values().items():
        np.testing.assert_array_equal(Variables(resumed.autoencoder.parts).values()[name], value)


@pytest.mark.parametrize("classes", [None, 3, -1, 10**9, [10]])
def test_a_stored_run_of_another_number_of_classes_is_refused(
    classes: object, run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    shutil.copytree(run, tmp_path / "damaged")
    file = tmp_path / "damaged" / "models" / "weights.npz"
    kept = {name: value for name, value in np.load(file).items() if name != "classes"}
    np.savez(file, **kept, **({} if classes is None else {"classes": np.array(classes)}))
    said = refusal("vae-sample", "damaged", cwd=tmp_path)
    assert "the run directory is damaged" in said


@pytest.mark.parametrize("needing", ["model.conditional=true", "prior=class_conditional"])
def test_a_folder_without_labels_is_refused_before_it_is_read(
    needing: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal("vae-run", "dataset=folder", "dataset.root=nowhere", needing, cwd=tmp_path)
    assert f"{needing} needs labels, and dataset.labels is null: give dataset.labels=folders" in said


@pytest.mark.parametrize("dataset", ["Unlabelled", "Misnumbered"])
def test_a_dataset_of_ones_own_without_usable_labels_is_refused_before_training(dataset: str) -> None:
    said = {"Unlabelled": "needs labels, and the images have none", "Misnumbered": "labels from 0 to 9: they must be"}
    with pytest.raises(UserError, match=said[dataset]):
        built("method=cvae", f"dataset._target_=tests.cli.test_classes.{dataset.lower()}")


def unlabelled(**keys: float) -> digits.Dataset:
    """The digits, without their classes."""
    dataset = digits.load(**keys)
    return digits.Dataset(digits.Split(dataset.train.images), digits.Split(dataset.test.images))


def misnumbered(**keys: float) -> digits.Dataset:
    """The digits, with fewer names than classes."""
    dataset = digits.load(**keys)
    return digits.Dataset(dataset.train, dataset.test, None, ["a", "b"])


def test_a_network_of_ones_own_that_takes_no_classes_is_refused(
    tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network_without_classes.py").write_text(NETWORK)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("_target_: network_without_classes.build\n")
    monkeypatch.syspath_prepend(tmp_path)
    small = ("dataset.limit=20", "figures=none", "hardware=cpu")
    said = refusal("vae-run", "--config-dir", "conf", "model=mine", "method=cvae", *small, cwd=tmp_path)
    assert "model.conditional=true: network_without_classes.build has no argument `classes`" in said
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))
