import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vae_runner.models.conv import build
from vae_runner.models.layers import FusedBatchNormalization, plain
from vae_runner.models.posterior import DiagonalGaussian


def test_fused_batch_normalisation_equals_kerass_in_outputs_gradients_and_averages() -> None:
    rng = np.random.default_rng(0)
    ours, kerass = (
        kind(momentum=0.9, gamma_initializer="ones")
        for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    for step in range(3):
        x = tf.constant(rng.normal(3, 2, (4, 5, 6, 7)).astype(np.float32))
        weights = tf.constant(rng.normal(size=x.shape).astype(np.float32))
        results = []
        for layer in (ours, kerass):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                loss = tf.reduce_sum(y * weights)
            results.append([y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4, err_msg=f"step {step}")
        np.testing.assert_allclose(ours.moving_mean, kerass.moving_mean, rtol=1e-5)
        np.testing.assert_allclose(ours.moving_variance, kerass.moving_variance, rtol=1e-4)
    np.testing.assert_allclose(ours(x), kerass(x), rtol=1e-5, atol=1e-5)


def test_plain_networks_compute_the_same_and_hold_no_layer_of_ours() -> None:
    autoencoder = build((8, 8, 1), 2, DiagonalGaussian)
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    autoencoder.encode(images, training=True)  # so that the moving averages are not those of a new layer

    copy = plain(autoencoder.encoder)
    assert {type(layer).__module__.split(".")[0] for layer in copy.layers} == {"keras"}
    np.testing.assert_array_equal(copy(images)["mean"], autoencoder.encoder(images)["mean"])


def test_a_saved_model_loads_in_safe_mode_where_vae_runner_was_never_imported(tmp_path: Path) -> None:
    autoencoder = build((9, 11, 3), 2, DiagonalGaussian)
    plain(autoencoder.decoder).save(tmp_path / "decoder.keras")
    z = np.ones((2, 2), np.float32)
    np.save(tmp_path / "expected.npy", autoencoder.decode(z))

    script = (
        "import sys, numpy as np, keras\n"
        "model = keras.saving.load_model('decoder.keras', safe_mode=True)\n"
        "np.testing.assert_allclose(model(np.ones((2, 2), 'float32')), np.load('expected.npy'), rtol=1e-5)\n"
        "assert not any(name.startswith('vae_runner') for name in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
