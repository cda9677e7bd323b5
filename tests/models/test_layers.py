import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.comparing import assert_close, load_custom_ops, outputs_and_gradients
from vae_runner.models.conv import build
from vae_runner.models.layers import (
    FusedBatchNormalization,
    InPlaceLeakyReLU,
    StridedConv2D,
    StridedConv2DTranspose,
    TappedConv2DTranspose,
    plain,
)
from vae_runner.models.posterior import DiagonalGaussian


@pytest.mark.parametrize("synchronized", [False, True])
def test_fused_batch_normalisation_equals_kerass_in_outputs_gradients_and_averages(synchronized: bool) -> None:
    rng = np.random.default_rng(0)
    ours, kerass = (
        kind(momentum=0.9, gamma_initializer="ones")
        for kind in (FusedBatchNormalization, keras.layers.BatchNormalization)
    )
    ours.synchronized = synchronized
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


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_synchronised_batch_normalisation_in_half_precision_is_near_that_in_whole(policy: str) -> None:
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32))
    results = []
    for dtype in (policy, "float32"):
        layer = FusedBatchNormalization(momentum=0.9, dtype=dtype)
        layer.synchronized = True
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=True), tf.float32)
            loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(840.0)), y.shape))
        results.append([y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.03 * np.abs(b).max())


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_leaky_relu_in_place_equals_kerass_in_outputs_and_gradients(slope: float) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32))
    assert_close(*(outputs_and_gradients([kind(slope)], x) for kind in (InPlaceLeakyReLU, keras.layers.LeakyReLU)))


@pytest.mark.parametrize(("kernel", "channels"), [(1, 1), (2, 3), (3, 1), (3, 3), (4, 1), (5, 2)])
def test_a_tapped_transposed_convolution_equals_kerass_in_outputs_and_gradients(kernel: int, channels: int) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 7, 9, 6)).astype(np.float32))
    kinds = (TappedConv2DTranspose, keras.layers.Conv2DTranspose)
    ours, kerass = (kind(channels, kernel, padding="same", activation="sigmoid") for kind in kinds)
    for layer in (ours, kerass):
        layer.build(x.shape)
    kerass.set_weights([ours.kernel, np.arange(channels) - 0.5])
    ours.set_weights(kerass.get_weights())
    assert_close(outputs_and_gradients([ours], x), outputs_and_gradients([kerass], x))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "channels", "filters"),
    [
        ((8, 8), 2, 16, 5),
        ((7, 9), 2, 112, 16),
        ((28, 28), 2, 32, 64),
        ((1, 1), 2, 16, 16),
        ((5, 40), 1, 64, 3),
        ((9, 10), 3, 32, 32),
    ],
)
def test_a_strided_convolution_equals_kerass_in_outputs_and_gradients_of_gradients(
    size: tuple[int, int], stride: int, channels: int, filters: int, transposed: bool
) -> None:
    ops = load_custom_ops()
    random = np.random.default_rng(0)
    if transposed:
        kinds, channels, filters = (StridedConv2DTranspose, keras.layers.Conv2DTranspose), filters, channels
    else:
        kinds = (StridedConv2D, keras.layers.Conv2D)
    x = tf.constant(random.normal(size=(3, *size, channels)).astype(np.float32))
    ours, kerass = (kind(filters, 3, stride, padding="same", activation="sigmoid") for kind in kinds)
    for layer in (ours, kerass):
        layer.build(x.shape)
    kerass.set_weights([ours.kernel, random.normal(size=filters)])
    ours.set_weights(kerass.get_weights())
    assert_close(outputs_and_gradients([ours], x), outputs_and_gradients([kerass], x))  # as it is, that is Keras's

    ours.custom_ops = ops
    graph = tf.function(lambda: outputs_and_gradients([ours], x)).get_concrete_function().graph
    assert "VaeRunnerConv2DTranspose" in {op.type for op in graph.get_operations()}
    assert_close(outputs_and_gradients([ours], x), outputs_and_gradients([kerass], x))
    penalties = []
    for layer in (ours, kerass):
        with tf.GradientTape() as tape:
            tape.watch(x)
            penalty = tf.add_n([tf.reduce_sum(part**2) for part in outputs_and_gradients([layer], x)])
        penalties.append(tape.gradient(penalty, [x, layer.kernel.value, layer.bias.value]))
    for a, b in zip(*penalties, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize(
    "layer",
    [
        StridedConv2D(32, 3, 2, padding="same", groups=2),
        StridedConv2D(32, 3, 2, padding="valid"),
        StridedConv2D(32, 3, (2, 1), padding="same"),
        StridedConv2D(32, 3, 1, padding="same", dilation_rate=2),
        StridedConv2D(32, 5, 2, padding="same"),
        StridedConv2DTranspose(16, 3, 2, padding="same", output_padding=0),
        StridedConv2DTranspose(24, 3, 2, padding="same"),
    ],
)
def test_strided_convolutions_that_the_custom_operation_does_not_compute_are_kerass(layer: keras.layers.Layer) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 8, 16)).astype(np.float32))
    layer.build(x.shape)
    expected = outputs_and_gradients([layer], x)
    layer.custom_ops = load_custom_ops()
    graph = tf.function(lambda: outputs_and_gradients([layer], x)).get_concrete_function().graph
    assert not any("VaeRunner" in op.type for op in graph.get_operations())
    assert_close(outputs_and_gradients([layer], x), expected)


def test_plain_networks_compute_the_same_and_hold_no_layer_of_ours() -> None:
    autoencoder = build((8, 8, 1), 2, DiagonalGaussian)
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    autoencoder.encode(images, training=True)  # so that the moving averages are not those of a new layer

    encoder, decoder = plain(autoencoder.encoder), plain(autoencoder.decoder)
    assert {type(layer).__module__.split(".")[0] for layer in [*encoder.layers, *decoder.layers]} == {"keras"}
    np.testing.assert_array_equal(encoder(images)["mean"], autoencoder.encoder(images)["mean"])
    z = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_allclose(decoder(z), autoencoder.decoder(z), atol=1e-5)


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
