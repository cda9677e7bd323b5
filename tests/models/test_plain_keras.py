"""What others do with a run's networks: they are Keras's, and need nothing of ours."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import mostly_slow
from tests.networks import build
from vae_runner.distributions.squared_error import SquaredError
from vae_runner.errors import UserError
from vae_runner.likelihoods.base import Likelihood, PixelParameter
from vae_runner.models import burgess, conv, gated_mlp, linear, mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.storage.run_directory import RunDirectory


@pytest.mark.parametrize("model", [conv, mlp])
@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_networks_hold_no_layer_of_ours(model: object, normalization: str) -> None:
    autoencoder = build((9, 11, 3), model=model, normalization=normalization)
    layers = [*autoencoder.encoder.layers, *autoencoder.decoder.layers]
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}


@pytest.mark.parametrize("model", [linear, gated_mlp, burgess])
def test_the_networks_of_the_papers_hold_no_layer_of_ours(model: ModuleType) -> None:
    autoencoder = build((9, 11, 3), model=model)
    layers = [*autoencoder.encoder.layers, *autoencoder.decoder.layers]
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}


@pytest.mark.parametrize("model", mostly_slow([conv, gated_mlp, burgess], quick=1))
def test_a_saved_model_loads_in_safe_mode_where_vae_runner_was_never_imported(
    model: ModuleType, tmp_path: Path
) -> None:
    autoencoder = build((9, 11, 3), model=model)
    images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    autoencoder.encode(images, training=True)  # so that the moving averages are not those of a new layer
    assert_saved_models_load_elsewhere(autoencoder, images, tmp_path)


class Scaled(Likelihood, keras.layers.Layer):
    """Logits in, images out, with a weight of its own: nothing of it is known to Keras."""

    measure = None

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.5))

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        return {"logits": PixelParameter(channels)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> SquaredError:
        low = keras.ops.sigmoid(parameters["logits"]) * self.scale
        return SquaredError(keras.ops.where(parameters["logits"] > 0, 2 * low, low))


class WithTensorFlow(Scaled):
    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> SquaredError:
        return SquaredError(tf.sigmoid(parameters["logits"]))


def test_a_likelihoods_mean_is_part_of_the_saved_decoder(tmp_path: Path) -> None:
    autoencoder = build((9, 11, 3), model=mlp, likelihood=Scaled())
    autoencoder.likelihood.scale.assign(0.75)
    images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    assert_saved_models_load_elsewhere(autoencoder, images, tmp_path)


def test_a_mean_that_no_keras_model_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match=r"the mean of WithTensorFlow cannot be saved .*write it with keras\.ops"):
        build((9, 11, 3), model=mlp, likelihood=WithTensorFlow()).image_decoder()


@pytest.mark.parametrize("model", mostly_slow([conv, mlp]))
def test_saved_models_of_conditional_networks_take_the_label_as_a_second_input(
    model: ModuleType, tmp_path: Path
) -> None:
    autoencoder = build((9, 11, 3), model=model, likelihood=Scaled(), classes=4)
    images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    assert_saved_models_load_elsewhere(autoencoder, images, tmp_path, np.array([3, 1]))


def assert_saved_models_load_elsewhere(
    autoencoder: Autoencoder, images: np.ndarray, tmp_path: Path, labels: np.ndarray | None = None
) -> None:
    """Saved, both give what the autoencoder gives, in a process that knows nothing of vae_runner."""
    RunDirectory(tmp_path).save_models(autoencoder)
    z = autoencoder.encode(images, labels).mean
    maps = np.reshape(z, [-1, *autoencoder.latent_shape])
    one_hot = np.zeros(0) if labels is None else np.eye(autoencoder.classes, dtype=np.float32)[labels]
    decoded = autoencoder.decode(z, labels).mean
    np.savez(tmp_path / "expected.npz", images=images, z=maps, label=one_hot, decoded=decoded)

    script = (
        "import sys, numpy as np, keras\n"
        "expected = np.load('expected.npz')\n"
        "encoder, decoder = (keras.saving.load_model(f'models/{part}.keras', safe_mode=True)\n"
        "                    for part in ('encoder', 'decoder'))\n"
        "given = lambda name: {name: expected[name], 'label': expected['label']} if expected['label'].size "
        "else expected[name]\n"
        "z = encoder.predict(given('images'), verbose=0)\n"
        "assert z.keys() == {'mean', 'log_var'}\n"
        "np.testing.assert_allclose(z['mean'], expected['z'], rtol=1e-5, atol=1e-6)\n"
        "np.testing.assert_allclose(decoder.predict(given('z'), verbose=0), expected['decoded'], rtol=1e-5)\n"
        "assert not any(name.startswith('vae_runner') for name in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
