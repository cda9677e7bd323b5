"""The network in whose features a loss compares images: what a run keeps of it, and how it continues with it."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.small_experiments import built
from tests.training.test_players import without_clock
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment
from vae_runner.training.checkpoints import Checkpoint


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
    reference.trainer.run_epoch(id)
    reference.trainer.next_epoch()
    checkpoint = Checkpoint.from_bytes(reference.state.capture()[1].to_bytes())
    assert len(checkpoint.frozen["perceptual_model"]) == 16
    of_the_loss = [value.size for name, value in checkpoint.variables.items() if name.startswith("loss/")]
    assert sum(of_the_loss) == 0
    without = opposed()
    assert checkpoint.variables.keys() == without.state.variables.values().keys()
    again = opposed(key)
    again.state.restore(checkpoint)
    ends = [without_clock(run.trainer.run_epoch(id).metrics) for run in (reference, again)]
    assert ends[0] == ends[1]
    assert ends[0]["train/perceptual"] > 0
    for name, value in reference.state.variables.values().items():
        np.testing.assert_array_equal(again.state.variables.values()[name], value)
    save_network(file)
    changed = opposed(key)
    with pytest.raises(UserError, match=r"^the network of loss\.perceptual_model has other weights than when the run"):
        changed.state.restore(checkpoint)
