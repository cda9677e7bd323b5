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
from vae_runner.models import burgess, conv, gated_mlp, linear, mlp, resnet
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


def test_a_mean_that_no_keras_model_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match=r"the mean of WithTensorFlow cannot be saved .*write it with keras\.ops"):
        build((9, 11, 3), model=mlp, likelihood=WithTensorFlow()).image_decoder()


# Networks of all kinds, with likelihoods that have a weight of their own, and with the label as a second input.
SAVED = {
    "conv": lambda: build((9, 11, 3), model=conv),
    "likelihood": lambda: build((9, 11, 3), model=mlp, likelihood=Scaled()),
    "conditional": lambda: build((9, 11, 3), model=conv, likelihood=Scaled(), classes=4),
    "gated_mlp": lambda: build((9, 11, 3), model=gated_mlp),
    "burgess": lambda: build((9, 11, 3), model=burgess),
    "conditional_mlp": lambda: build((9, 11, 3), model=mlp, likelihood=Scaled(), classes=4),
    "resnet": lambda: build(
        (9, 11, 3), 2, model=resnet, spatial=True, downsamplings=1, widths=8, attention=True, classes=4
    ),
}
LOADED = """
import sys, numpy as np, keras
for name in sys.argv[1:]:
    expected = np.load(f'{name}.npz')
    encoder, decoder = (keras.saving.load_model(f'{name}/models/{part}.keras', safe_mode=True)
                        for part in ('encoder', 'decoder'))
    label = {'label': expected['label']} if expected['label'].size else {}
    given = lambda of: {of: expected[of], **label} if label else expected[of]
    z = encoder(given('images'))
    assert z.keys() == {'mean', 'log_var'}, name
    np.testing.assert_allclose(z['mean'], expected['z'], rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(decoder(given('z')), expected['decoded'], rtol=1e-5, err_msg=name)
    assert not any(module.startswith('vae_runner') for module in sys.modules)
"""


@pytest.mark.parametrize("names", mostly_slow([list(SAVED)[:3], list(SAVED)[3:]]), ids=" ".join)
def test_saved_models_give_the_same_in_safe_mode_where_vae_runner_was_never_imported(
    names: list[str], tmp_path: Path
) -> None:
    for name in names:
        autoencoder = SAVED[name]()
        if isinstance(autoencoder.likelihood, Scaled):
            autoencoder.likelihood.scale.assign(0.75)
        images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
        labels = np.array([3, 1]) if autoencoder.classes else None
        autoencoder.encode(images, labels, training=True)  # so that the moving averages are not those of a new layer
        RunDirectory(tmp_path / name).save_models(autoencoder)
        z = autoencoder.encode(images, labels).mean
        maps = np.reshape(z, [-1, *autoencoder.latent_shape])
        one_hot = np.zeros(0) if labels is None else np.eye(autoencoder.classes, dtype=np.float32)[labels]
        decoded = autoencoder.decode(z, labels).mean
        np.savez(tmp_path / f"{name}.npz", images=images, z=maps, label=one_hot, decoded=decoded)
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
