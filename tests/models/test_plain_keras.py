"""What others do with a run's networks: they are Keras's, and need nothing of ours."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.networks import build
from vae_runner.models import conv, mlp
from vae_runner.storage.run_directory import RunDirectory


@pytest.mark.parametrize("model", [conv, mlp])
@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_networks_hold_no_layer_of_ours(model: object, normalization: str) -> None:
    autoencoder = build((9, 11, 3), model=model, normalization=normalization)
    layers = [*autoencoder.encoder.layers, *autoencoder.decoder.layers]
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}


def test_a_saved_model_loads_in_safe_mode_where_vae_runner_was_never_imported(tmp_path: Path) -> None:
    autoencoder = build((9, 11, 3))
    images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    autoencoder.encode(images, training=True)  # so that the moving averages are not those of a new layer
    RunDirectory(tmp_path).save_models(autoencoder)
    z = autoencoder.encode(images).mean
    np.savez(tmp_path / "expected.npz", images=images, z=z, decoded=autoencoder.decode(z).mean)

    script = (
        "import sys, numpy as np, keras\n"
        "expected = np.load('expected.npz')\n"
        "encoder, decoder = (keras.saving.load_model(f'models/{part}.keras', safe_mode=True)\n"
        "                    for part in ('encoder', 'decoder'))\n"
        "z = encoder.predict(expected['images'], verbose=0)\n"
        "assert z.keys() == {'mean', 'log_var'}\n"
        "np.testing.assert_allclose(z['mean'], expected['z'], rtol=1e-5, atol=1e-6)\n"
        "np.testing.assert_allclose(decoder.predict(expected['z'], verbose=0), expected['decoded'], rtol=1e-5)\n"
        "assert not any(name.startswith('vae_runner') for name in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
