"""The network in whose features a loss compares images: what a run keeps of it, and how it continues with it."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import command
from tests.networks import build
from tests.small_experiments import SMALL, built, two_steps
from tests.training.test_players import without_clock
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment
from vae_runner.losses.patch_gan import PatchGan
from vae_runner.losses.perceptual import PerceptualError
from vae_runner.models import mlp
from vae_runner.models.features import classifier_features, random_features, weights_hash
from vae_runner.training.checkpoints import Checkpoint

CLASSIFIER = "loss.perceptual_model=classifier"
SHORT = (*SMALL, "loss=patch_gan", "loss.discriminator_width=2", CLASSIFIER, "figures=none", "optimizer.ema=0.9")


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers that are trained for 20 steps."""
    short = partial(classifier_features, steps=20)
    monkeypatch.setattr("vae_runner.losses.patch_gan.classifier_features", short)


def end_of(run: Path) -> Checkpoint:
    return Checkpoint.from_bytes(max((run / "checkpoints").iterdir()).read_bytes())


def save_network(file: Path) -> None:
    """Save a network of other weights each time."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3), keras.layers.Flatten(), keras.layers.Dense(4)]
    keras.Sequential(layers).save(file)


def opposed(*overrides: str) -> Experiment:
    return built("loss=patch_gan", "epochs=2", "loss.weight_by_gradients=false", *overrides)


def test_checkpoints_have_the_hash_of_a_perceptual_model_and_a_run_continues_with_the_same_weights_only(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.keras"
    save_network(file)
    key = f"loss.perceptual_model={file}"
    reference = opposed(key)
    two_steps(reference, compiled=False)
    checkpoint = Checkpoint.from_bytes(reference.state.capture()[1].to_bytes())
    assert len(checkpoint.frozen["perceptual_model"]) == 16
    of_the_loss = [value.size for name, value in checkpoint.variables.items() if name.startswith("loss/")]
    assert sum(of_the_loss) == 0
    again = opposed(key)
    again.state.restore(checkpoint)
    ends = [two_steps(run, compiled=False) for run in (reference, again)]
    assert ends[0] == ends[1]
    assert ends[0]["train/perceptual"] > 0
    for name, value in reference.state.variables.values().items():
        np.testing.assert_array_equal(again.state.variables.values()[name], value)
    save_network(file)
    changed = opposed(key)
    with pytest.raises(UserError, match=r"^the network of loss\.perceptual_model has other weights than when the run"):
        changed.state.restore(checkpoint)


# --- a classifier of the labels -------------------------------------------------------------------------------------


def test_a_classifier_is_trained_from_the_seed_on_training_images_alone_and_its_test_accuracy_is_said(
    small_dataset: Dataset, short_training: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def trained(dataset: Dataset, seed: int = 3) -> str:
        loss, autoencoder = PatchGan(perceptual_model="classifier"), build((8, 8, 1), model=mlp, width=8)
        loss.make_opponents(autoencoder)
        loss.players(autoencoder)
        loss.prepare(dataset, seed)
        assert loss.prepared is not None
        assert loss.frozen == {"perceptual_model": weights_hash(loss.prepared)}
        assert not loss.prepared.trainable_variables
        assert sum(int(np.prod(variable.shape)) for variable in loss.variables) == sum(
            int(np.prod(variable.shape)) for variable in loss.discriminator.variables
        )
        return weights_hash(loss.prepared)

    first = trained(small_dataset)
    assert caplog.messages[-1].startswith("Perceptual model: it is right about ")
    train, test = small_dataset.train, small_dataset.test
    assert train.labels is not None
    assert first == trained(small_dataset) == trained(replace(small_dataset, test=test.first(7)))
    others = [
        trained(small_dataset, seed=4),
        trained(replace(small_dataset, train=Split(train.images, train.labels[::-1]))),
        trained(replace(small_dataset, train=Split(np.asarray(train.images)[:, ::-1], train.labels))),
        classifier_features(train.images, train.labels, test.images, test.labels, steps=20, seed=3).weights_hash,
    ]
    assert len({first, *others}) == 5


def test_images_without_labels_are_refused_where_only_the_data_says_so(small_dataset: Dataset) -> None:
    unlabelled = Dataset(Split(small_dataset.train.images), small_dataset.test)
    with pytest.raises(UserError, match=r"^loss\.perceptual_model=classifier needs labels, and the images have none"):
        PatchGan(perceptual_model="classifier").check_dataset(unlabelled)
    PatchGan().check_dataset(unlabelled)
    PatchGan(perceptual_model="classifier").check_dataset(small_dataset)


@pytest.mark.parametrize(("layers", "outputs"), [("all", 3), ("last", 1)])
def test_its_layers_are_its_convolutions_and_one_of_64_features(layers: str, outputs: int) -> None:
    loss = PatchGan(perceptual_model="classifier", perceptual_layers=layers)
    loss.make_opponents(autoencoder := build((16, 16, 1), model=mlp, width=8))
    loss.players(autoencoder)
    assert loss.perceptual_error is not None
    found = loss.perceptual_error._features(np.ones((2, 16, 16, 1), np.float32))
    assert [of.shape[1:] for of in found] == [(8, 8, 32), (4, 4, 64), (64,)][-outputs:]


def test_xla_computes_the_same_error_in_features() -> None:
    # The network is that of a classifier; no test has XLA compile a whole step with it.
    error = PerceptualError(random_features((8, 8, 1)).network, "all")
    one, other = np.random.default_rng(0).random((2, 5, 8, 8, 1), np.float32)
    assert float(error(one, other)) > 0.01
    compiled = tf.function(error, jit_compile=True)
    assert float(compiled(tf.constant(one), tf.constant(other))) == pytest.approx(float(error(one, other)), rel=1e-5)


def test_a_resumed_run_has_the_classifier_of_its_beginning_and_ends_with_the_same_bits(
    tmp_path: Path, in_process: Callable[..., None], refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "vae_runner.losses.patch_gan.classifier_features"
    monkeypatch.setattr(target, partial(classifier_features, steps=20))
    in_process("vae-run", *SHORT, "epochs=2", "hydra.run.dir=whole", cwd=tmp_path)
    in_process("vae-run", *SHORT, "hydra.run.dir=parts", cwd=tmp_path)
    monkeypatch.setattr(target, None)  # It is not trained again.
    kept = tmp_path / "parts" / "models" / "perceptual.npz"
    weights = kept.read_bytes()
    kept.unlink()
    assert "models/perceptual.npz is missing" in refusal("vae-run", "resume=parts", "epochs=2", cwd=tmp_path)
    with np.load(tmp_path / "whole" / "models" / "perceptual.npz") as arrays:
        np.savez(kept, **{name: array + 1 for name, array in arrays.items()})
    said = refusal("vae-run", "resume=parts", "epochs=2", cwd=tmp_path)
    assert "the network of loss.perceptual_model has other weights than when the run began" in said
    kept.write_bytes(weights)
    in_process("vae-run", "resume=parts", "epochs=2", cwd=tmp_path)
    whole, parts = end_of(tmp_path / "whole"), end_of(tmp_path / "parts")
    assert whole.frozen == parts.frozen
    assert list(map(without_clock, whole.rows)) == list(map(without_clock, parts.rows))
    assert whole.rows[1]["test/perceptual"] > 0
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(parts.variables[name], value, err_msg=name)


@pytest.mark.slow
def test_the_installed_command_trains_with_a_classifier_in_the_processes_of_a_sweep_and_over_two_replicas(
    tmp_path: Path,
) -> None:
    swept = command("vae-run", "-m", "seed=0", *SHORT, "sweep.dir=swept", cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    mirrored = ("hardware.distribution=mirrored", "hardware.logical_cpus=2", "hydra.run.dir=mirrored")
    alone = command("vae-run", *SHORT, *mirrored, cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "Perceptual model: it is right about " in alone.stdout
    (info,) = (tmp_path / "swept").glob("*/run.json")
    assert end_of(info.parent).frozen == end_of(tmp_path / "mirrored").frozen
    metrics, of_two = (json.loads(file.read_text())["metrics"] for file in (info, tmp_path / "mirrored" / "run.json"))
    terms = {name for name in metrics if name.startswith(("train/", "test/")) and "per_second" not in name}
    assert {name: of_two[name] for name in terms} == pytest.approx(
        {name: metrics[name] for name in terms}, rel=5e-4, abs=5e-4
    )
