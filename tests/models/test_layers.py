import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_runner.models.conv import build
from vae_runner.models.layers import (
    AffineMap,
    FoldedBlock,
    FusedBatchNormalization,
    Heads,
    InPlaceLeakyReLU,
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


def outputs_and_gradients(layers: list[keras.layers.Layer], x: tf.Tensor) -> list[tf.Tensor]:
    """What layers in a row make of x, and the gradients of a weighted sum of it with respect to x and their weights."""
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in layers:
            y = layer(y)
        loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y)))
    return [y, *tape.gradient(loss, [x, *variables])]


def assert_close(ours: list[tf.Tensor], kerass: list[tf.Tensor]) -> None:
    for a, b in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(b).max()))


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


@pytest.mark.parametrize(("latent", "batch"), [(2, 128), (5, 1)])
def test_an_affine_map_equals_its_layers_in_outputs_and_gradients(latent: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    layers = [
        keras.layers.Dense(4 * 5 * 3, bias_initializer="uniform"),
        keras.layers.Reshape((4, 5, 3)),
        keras.layers.Conv2DTranspose(6, 3, 2, padding="same", bias_initializer="uniform"),
    ]
    affine = AffineMap(layers)
    z = tf.constant(rng.normal(size=(batch, latent)).astype(np.float32))
    affine(z)  # builds them
    assert_close(outputs_and_gradients([affine], z), outputs_and_gradients(layers, z))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_an_affine_map_rounds_no_more_than_its_layers_in_half_precision(precision: str) -> None:
    def made(bias: str) -> list[keras.layers.Layer]:
        return [
            keras.layers.Dense(16, bias_initializer=bias),
            keras.layers.Reshape((2, 2, 4)),
            keras.layers.Conv2DTranspose(4, 3, 2, padding="same", bias_initializer=bias),
        ]

    rng = np.random.default_rng(0)
    z = tf.constant(rng.normal(size=(64, 31)).astype(np.float32))
    keras.config.set_dtype_policy(precision)
    try:
        affine, halves = AffineMap(made("zeros")), keras.Sequential(made("zeros"))
    finally:
        keras.config.set_dtype_policy("float32")
    exact = keras.Sequential(made("zeros"))
    for network in (affine, halves, exact):
        network(z)  # builds it
    weights = [rng.normal(size=weight.shape) for weight in exact.get_weights()]
    for network in (affine, halves, exact):
        network.set_weights(weights)
    ours, layers = (np.abs(np.asarray(network(z), np.float32) - exact(z)).mean() for network in (affine, halves))
    assert ours < layers


@pytest.mark.parametrize(
    ("kernel", "channels", "stride", "size"),
    [(3, 1, 1, (7, 8)), (3, 1, 2, (7, 8)), (2, 3, 1, (5, 5)), (2, 2, 2, (6, 5)), (1, 4, 1, (3, 3)), (1, 1, 2, (5, 4))],
)
def test_a_folded_block_equals_its_layers_in_outputs_gradients_and_averages(
    kernel: int, channels: int, stride: int, size: tuple[int, int]
) -> None:
    def layers(norm: type[keras.layers.Layer], activation: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
        convolution = keras.layers.Conv2D(6, kernel, stride, padding="same", use_bias=False)
        return [convolution, norm(momentum=0.9, epsilon=1e-3), activation(0.2)]

    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(2, 1, (5, *size, channels)).astype(np.float32))
    folded = FoldedBlock(layers(FusedBatchNormalization, InPlaceLeakyReLU))
    kerass = keras.Sequential(layers(keras.layers.BatchNormalization, keras.layers.LeakyReLU))
    for block in (folded, kerass):
        block(x)  # builds it
    folded.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in folded.get_weights()])
    kerass.set_weights(folded.get_weights())
    results = []
    for block in (folded, kerass):
        variables = [x, *(variable.value for variable in block.trainable_variables)]
        with tf.GradientTape() as tape:
            tape.watch(variables)
            y = block(x, training=True)
            loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y)))
        results.append([y, *tape.gradient(loss, variables)])
    assert_close(*results)
    for ours, theirs in zip(folded.get_weights(), kerass.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(folded(x), kerass(x), rtol=1e-4, atol=1e-5)


def test_a_folded_block_of_equal_pixels_has_no_variance_out_of_rounding() -> None:
    norm = FusedBatchNormalization(momentum=0.0)
    block = FoldedBlock([keras.layers.Conv2D(3, 1, use_bias=False), norm, InPlaceLeakyReLU(0.2)])
    block(tf.fill([4, 9, 9, 1], 0.7), training=True)
    np.testing.assert_allclose(norm.moving_variance, 0, atol=1e-9)


def test_heads_equal_their_layers_in_outputs_and_gradients() -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32))
    layers = [keras.layers.Dense(3, bias_initializer="uniform", name=name) for name in ("mean", "log_var")]
    joined = Heads(layers)
    assert joined(x).keys() == {"mean", "log_var"}
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]
    results = []
    for compute in (joined, joined.one_by_one):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = compute(x)
            loss = tf.reduce_sum(tf.sin(outputs["mean"]) * outputs["log_var"])
        results.append([*outputs.values(), *tape.gradient(loss, [x, *variables])])
    assert_close(*results)


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
