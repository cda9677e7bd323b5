"""Families of the user's own with weights: these are trained, kept, and back when a run is looked at or goes on."""

import sys
from pathlib import Path

import numpy as np
import pytest

import vae_runner as vr
from tests.conftest import command
from vae_runner.errors import UserError
from vae_runner.experiment import load
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.training.checkpoints import Checkpoint

MODULE = """
import keras
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.likelihoods.mse import MeanSquaredError

class Scaled(Gaussian, keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

    def distribution(self, parameters):
        return super().distribution({**parameters, "mean": parameters["mean"] * self.scale})

class Shifted(keras.layers.Layer, MeanSquaredError):
    def __init__(self):
        super().__init__()
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")
        self.fixed = self.add_weight(shape=(2,), initializer="ones", trainable=False, name="fixed")

    def distribution(self, parameters):
        return super().distribution({"mean": parameters["mean"] + self.shift})
"""
RUN = ("--config-dir", "conf", "posterior=mine", "likelihood=mine", "hydra.run.dir=run")
SMALL = ("dataset.limit=50", "batch_size=16", "model=mlp", "model.width=8", "hardware.deterministic=true")


def test_weights_of_a_posterior_and_a_likelihood_are_trained_kept_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group, name in (("posterior", "Scaled"), ("likelihood", "Shifted")):
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(f"_target_: my_family.{name}\n")
    (tmp_path / "my_family.py").write_text(MODULE)
    result = command("vae-run", *RUN, *SMALL, "epochs=1", "figures=none", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    first = dict(np.load(tmp_path / "run" / "models" / "weights.npz"))
    assert first["posterior/0"] != 1
    assert first["likelihood/0"] != 0
    np.testing.assert_array_equal(first["likelihood/1"], [1, 1])

    arguments = ("resume=run", "epochs=2", "trust=[my_family]")
    result = command("vae-run", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    weights = dict(np.load(tmp_path / "run" / "models" / "weights.npz"))
    newest = Checkpoint.from_bytes(max((tmp_path / "run" / "checkpoints").iterdir()).read_bytes())
    for name in ("posterior/0", "likelihood/0"):
        assert weights[name] != first[name]
        np.testing.assert_array_equal(newest.variables[name], weights[name])

    monkeypatch.syspath_prepend(tmp_path)
    directory = RunDirectory.open_finished(tmp_path / "run")
    with pytest.raises(UserError, match=r"add trust=\['my_family'\] to vae_runner\.load"):
        vr.load(tmp_path / "run")
    with pytest.raises(UserError, match=r"add --trust my_family"):
        load(directory)
    autoencoder = load(directory, ["my_family"])
    sys.modules.pop("my_family")
    np.testing.assert_array_equal(autoencoder.posterior.scale, weights["posterior/0"])
    np.testing.assert_array_equal(autoencoder.likelihood.shift, weights["likelihood/0"])
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    parameters = autoencoder.encoder(images)
    np.testing.assert_allclose(autoencoder.encode(images).mean, parameters["mean"] * weights["posterior/0"], rtol=1e-6)
