"""Views of networks compute what the networks compute, whoever wrote these."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.acceleration.comparing import (
    assert_close,
    assert_second_gradients_are_right,
    load_custom_ops,
    network,
    step,
)
from tests.conftest import examples
from tests.networks import build
from vae_runner.acceleration.chains import MAX_SPANNING_LATENT
from vae_runner.acceleration.fuse import fuse
from vae_runner.models import burgess, gated_mlp, linear, mlp
from vae_runner.models import conv as conv_network

L = keras.layers
HAS_RENORM = "renorm" in inspect.signature(L.BatchNormalization.__init__).parameters  # which newer versions have
Layers = list[keras.layers.Layer]


@pytest.fixture(scope="module")
def ops() -> Any:
    return load_custom_ops()


def conv(filters: int, stride: Any = 1, kernel: int = 3, **arguments: Any) -> L.Layer:
    return L.Conv2D(filters, kernel, stride, **{"padding": "same", "use_bias": False, **arguments})


def transpose(filters: int, stride: Any = 1, kernel: int = 3, **arguments: Any) -> L.Layer:
    return L.Conv2DTranspose(filters, kernel, stride, **{"padding": "same", **arguments})


def norm(**arguments: Any) -> Layers:
    return [L.BatchNormalization(momentum=0.9, **arguments)]


def norm_and_activation(slope: float = 0.2) -> Layers:
    return [*norm(), L.LeakyReLU(slope)]


def image_head(channels: int = 1, **arguments: Any) -> Layers:
    return [*norm_and_activation(), transpose(channels, activation="sigmoid", **arguments)]


def views(model: keras.Model) -> list[str]:
    """The kinds of the fused layers of a view, in order."""
    return [type(layer).__name__ for layer in model.layers if type(layer).__module__.startswith("vae_runner")]


def some(shape: tuple[int, ...], center: float = 2.0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(center, 1, shape).astype(np.float32))


# Layers, the shape of what goes in, and the views with TensorFlow's operations and with our own.
ROWS: list[tuple[Callable[[], Layers], tuple[int, ...], list[str], list[str]]] = [
    (norm_and_activation, (3, 5, 4, 16), ["FusedBatchNormalization", "InPlaceLeakyReLU"], ["NormalizedLeakyReLU"]),
    (
        lambda: norm_and_activation(0.0),
        (2, 1, 1, 112),
        ["FusedBatchNormalization", "InPlaceLeakyReLU"],
        ["NormalizedLeakyReLU"],
    ),
    (
        lambda: norm_and_activation(1.0),
        (7, 30, 29, 32),
        ["FusedBatchNormalization", "InPlaceLeakyReLU"],
        ["NormalizedLeakyReLU"],
    ),
    (lambda: [conv(16), *norm_and_activation()], (3, 7, 5, 1), ["FoldedConvolution"], ["FoldedConvolution"]),
    (lambda: [conv(48, 2), *norm_and_activation()], (2, 8, 5, 1), ["FoldedConvolution"], ["FoldedConvolution"]),
    (lambda: [conv(32), *norm_and_activation()], (2, 1, 1, 1), ["FoldedConvolution"], ["FoldedConvolution"]),
    (lambda: [conv(16), *norm_and_activation()], (1, 40, 300, 1), ["FoldedConvolution"], ["FoldedConvolution"]),
    (
        image_head,
        (3, 7, 5, 16),
        ["FusedBatchNormalization", "InPlaceLeakyReLU", "TappedConv2DTranspose"],
        ["ImageHead"],
    ),
    (
        lambda: image_head(3),
        (2, 4, 9, 48),
        ["FusedBatchNormalization", "InPlaceLeakyReLU", "TappedConv2DTranspose"],
        ["ImageHead"],
    ),
    (
        image_head,
        (2, 1, 1, 32),
        ["FusedBatchNormalization", "InPlaceLeakyReLU", "TappedConv2DTranspose"],
        ["ImageHead"],
    ),
    (
        image_head,
        (1, 40, 300, 64),
        ["FusedBatchNormalization", "InPlaceLeakyReLU", "TappedConv2DTranspose"],
        ["ImageHead"],
    ),
]


@pytest.mark.parametrize(("layers", "shape", "plain_views", "own_views"), ROWS)
def test_rows_of_layers_are_computed_together_with_the_same_outputs_gradients_and_averages(
    layers: Callable[[], Layers], shape: tuple[int, ...], plain_views: list[str], own_views: list[str], ops: Any
) -> None:
    model, x = network(layers(), shape[1:]), some(shape)
    expected, _ = step(model, x, model.variables)
    outside_training, _ = step(model, x, model.variables, training=False)
    for custom_ops, names in ((None, plain_views), (ops, own_views)):
        fused = fuse(model, custom_ops)
        assert views(fused) == names
        results, kinds = step(fused, x, model.variables)
        assert any("VaeRunner" in kind for kind in kinds) == (custom_ops is not None)
        assert_close(results, expected)
        assert_close(step(fused, x, model.variables, training=False)[0], outside_training)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("layers", "channels"),
    [(norm_and_activation, 16), (lambda: [conv(16), *norm_and_activation()], 1), (image_head, 16)],
)
def test_gradients_of_gradients_are_right(layers: Callable[[], Layers], channels: int, own: bool, ops: Any) -> None:
    model, x = network(layers(), (4, 5, channels)), some((3, 4, 5, channels))
    assert_second_gradients_are_right(model, fuse(model, ops if own else None), x)


def frozen(layers: Layers) -> Layers:
    for layer in layers:
        if isinstance(layer, L.BatchNormalization):
            layer.trainable = False
    return layers


def synchronized(layers: Layers) -> Layers:
    for layer in layers:
        if isinstance(layer, L.BatchNormalization):
            layer.synchronized = True
    return layers


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (norm_and_activation, (2, 3, 4, 8)),
        (lambda: frozen(norm_and_activation()), (2, 3, 4, 16)),
        (lambda: synchronized(norm_and_activation()), (2, 3, 4, 16)),
        (lambda: [*norm(scale=False), L.ReLU()], (2, 3, 4, 16)),
        *([(lambda: [*norm(renorm=True), L.LeakyReLU()], (2, 3, 4, 16))] if HAS_RENORM else []),
        (lambda: [conv(8), *norm_and_activation()], (2, 3, 4, 1)),
        (lambda: [conv(16), *norm()], (2, 3, 4, 2)),
        (lambda: [conv(16, (1, 2)), *norm()], (2, 3, 4, 1)),
        (lambda: [conv(16, use_bias=True), *norm()], (2, 3, 4, 1)),
        (lambda: [conv(16, activation="tanh"), *norm()], (2, 3, 4, 1)),
        (lambda: synchronized([conv(16), *norm_and_activation()]), (2, 3, 4, 1)),
        (lambda: [transpose(2)], (2, 3, 4, 16)),
        (lambda: image_head(1, use_bias=False), (2, 3, 4, 8)),
        (lambda: frozen(image_head()), (2, 3, 4, 16)),
        (lambda: [conv(32, 2, groups=2)], (2, 6, 8, 16)),
        (lambda: [conv(32, 2, padding="valid")], (2, 6, 8, 16)),
        (lambda: [conv(32, (2, 1))], (2, 6, 8, 16)),
        (lambda: [conv(32, 1, dilation_rate=2)], (2, 6, 8, 16)),
        (lambda: [conv(32, 2, kernel=5)], (2, 6, 8, 16)),
        (lambda: [transpose(16, 2, output_padding=0)], (2, 6, 8, 16)),
        (lambda: [transpose(24, 2)], (2, 6, 8, 16)),
        (lambda: [conv(5, 2)], (2, 6, 8, 16)),
        (lambda: [conv(16)], (2, 6, 8, 24)),
        (lambda: [transpose(32, 3)], (2, 3, 4, 32)),
        (lambda: [conv(16, 2)], (2, 5, 4, 16)),
        (lambda: [transpose(16, 2)], (2, 2, 3, 16)),
        (lambda: [conv(16)], (1, 3, 257, 16)),
    ],
)
def test_what_custom_operations_do_not_compute_is_left_to_tensorflow(
    layers: Callable[[], Layers], shape: tuple[int, ...], ops: Any
) -> None:
    model, x = network(layers(), shape[1:]), some(shape)
    results, kinds = step(fuse(model, ops), x, model.variables)
    assert not any("VaeRunner" in kind for kind in kinds)
    assert_close(results, step(model, x, model.variables)[0])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_views_compute_what_the_layers_compute(policy: str, ops: Any) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = network([conv(16), *norm_and_activation(), conv(16, 2), *image_head(dtype="float32")], (6, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    x = some((4, 6, 8, 1))
    for training in (True, False):
        results, kinds = step(fuse(model, ops), x, model.variables, training)
        assert not any("VaeRunner" in kind for kind in kinds)
        for ours, kerass in zip(results, step(model, x, model.variables, training)[0], strict=True):
            ours, kerass = np.asarray(ours, np.float32), np.asarray(kerass, np.float32)
            np.testing.assert_allclose(ours, kerass, rtol=0.05, atol=0.05 * (1e-3 + np.abs(kerass).max()))


@pytest.mark.parametrize(("kernel", "channels"), [(1, 1), (2, 3), (3, 1), (3, 3), (4, 1), (5, 2)])
def test_a_transposed_convolution_to_few_channels_is_a_product_and_sums(kernel: int, channels: int) -> None:
    model = network([transpose(channels, kernel=kernel, activation="sigmoid")], (7, 9, 6))
    x = some((2, 7, 9, 6))
    fused = fuse(model)
    assert views(fused) == ["TappedConv2DTranspose"]
    assert_close(step(fused, x, model.variables)[0], step(model, x, model.variables)[0])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "channels", "filters"),
    [
        ((8, 8), 1, 16, 32), ((7, 9), 2, 112, 16), ((28, 28), 2, 32, 64), ((6, 5), 2, 16, 16), ((7, 7), 1, 64, 64),
        ((3, 4), 1, 48, 16),
    ],
)  # fmt: skip
def test_a_convolution_of_3_by_3_equals_kerass_in_outputs_and_gradients_of_gradients(
    size: tuple[int, int], stride: int, channels: int, filters: int, transposed: bool, ops: Any
) -> None:
    kind = transpose if transposed else conv
    channels, filters = (filters, channels) if transposed else (channels, filters)
    model = network([kind(filters, stride, use_bias=True, activation="sigmoid")], (*size, channels))
    x = some((3, *size, channels), 0.0)
    fused = fuse(model, ops)
    results, kinds = step(fused, x, model.variables)
    assert kinds >= {"VaeRunnerConv2D", "VaeRunnerConv2DTranspose", "VaeRunnerConv2DKernelGrad"}
    assert_close(results, step(model, x, model.variables)[0])
    assert_second_gradients_are_right(model, fused, x)


@pytest.mark.parametrize(("latent", "batch"), [(2, 128), (5, 1)])
def test_an_affine_map_equals_its_layers_in_outputs_and_gradients(latent: int, batch: int) -> None:
    model = network([L.Dense(60), L.Reshape((4, 5, 3)), transpose(6, 2), L.LeakyReLU()], (latent,))
    z = some((batch, latent), 0.0)
    fused = fuse(model)
    assert views(fused) == ["AffineMap", "InPlaceLeakyReLU"]
    assert_close(step(fused, z, model.variables)[0], step(model, z, model.variables)[0])


@pytest.mark.parametrize("latent", [MAX_SPANNING_LATENT, MAX_SPANNING_LATENT + 1])
def test_an_affine_map_is_for_few_dimensions_only(latent: int) -> None:
    model = network([L.Dense(16), L.Reshape((2, 2, 4)), transpose(6, 2)], (latent,))
    assert views(fuse(model)) == (["AffineMap"] if latent == MAX_SPANNING_LATENT else [])


def test_dense_layers_that_are_not_followed_by_a_convolution_stay_as_they_are() -> None:
    model = network([L.Dense(16), L.LeakyReLU(), L.Dense(3, activation="sigmoid")], (2,))
    assert views(fuse(model)) == []


@pytest.mark.parametrize(
    ("kernel", "channels", "stride", "size"),
    [(3, 1, 1, (7, 8)), (3, 1, 2, (7, 8)), (2, 3, 1, (5, 5)), (2, 2, 2, (6, 5)), (1, 4, 1, (3, 3)), (1, 1, 2, (5, 4))],
)
def test_a_folded_convolution_equals_its_layers(kernel: int, channels: int, stride: int, size: tuple[int, int]) -> None:
    model = network([conv(6, stride, kernel), *norm_and_activation()], (*size, channels))
    x = some((5, *size, channels))
    fused = fuse(model)
    assert views(fused) == ["FoldedConvolution"]
    for training in (True, False):
        results, expected = (step(either, x, model.variables, training)[0] for either in (fused, model))
        assert_close(results, expected)


def test_a_folded_convolution_of_equal_pixels_has_no_variance_out_of_rounding() -> None:
    layers = [conv(3, kernel=1), L.BatchNormalization(momentum=0.0), L.LeakyReLU()]
    model = network(layers, (9, 9, 1))
    fuse(model)(tf.fill([4, 9, 9, 1], 0.7), training=True)
    np.testing.assert_allclose(layers[1].moving_variance, 0, atol=1e-9)


def test_dense_outputs_side_by_side_are_one_product() -> None:
    features = keras.Input((7,))
    outputs = {name: L.Dense(units, name=name)(features) for name, units in (("log_var", 3), ("mean", 3), ("extra", 2))}
    model = keras.Model(features, outputs)
    x = some((5, 7))
    fused = fuse(model)
    assert views(fused) == ["ParallelDense"]
    assert fused(x).keys() == {"mean", "log_var", "extra"}
    assert_close(step(fused, x, model.variables)[0], step(model, x, model.variables)[0])
    assert [output.shape[-1] for output in keras.tree.flatten(fused(x))] == [2, 3, 3]  # in the order of their names


def test_residual_connections_are_left_in_place() -> None:
    images = keras.Input((8, 8, 3))
    x = L.LeakyReLU()(L.BatchNormalization()(conv(16)(images)))
    y = L.BatchNormalization()(conv(16)(x))  # taken by the sum alone, x by two
    model = keras.Model(images, L.LeakyReLU()(L.Add()([x, y])))
    data = some((2, 8, 8, 3))
    for custom_ops in (None, load_custom_ops()):
        fused = fuse(model, custom_ops)
        assert "FusedBatchNormalization" in views(fused)
        assert_close(step(fused, data, model.variables)[0], step(model, data, model.variables)[0])


def test_a_network_that_uses_a_layer_twice_is_left_as_it_is() -> None:
    images = keras.Input((8, 8, 16))
    shared = conv(16)
    model = keras.Model(images, L.LeakyReLU()(shared(L.LeakyReLU()(shared(images)))))
    assert fuse(model) is model


def test_a_view_shares_the_variables_and_leaves_the_network_as_it_is() -> None:
    model = network([conv(16), *norm_and_activation(), conv(16, 2), *image_head()], (8, 8, 1))
    before, outputs = model.to_json(), model(some((2, 8, 8, 1)))
    fused = fuse(model, load_custom_ops())
    assert {id(v) for v in fused.variables} == {id(v) for v in model.variables}
    assert keras.models.model_from_json(before).to_json() == before == model.to_json()
    np.testing.assert_array_equal(model(some((2, 8, 8, 1))), outputs)


KINDS = ["conv", "strided", "transpose", "strided transpose", "norm", "leaky", "relu", "to image", "crop"]


@settings(deadline=None, max_examples=examples(25))
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=7), channels=st.sampled_from([1, 3, 16]))
def test_any_row_of_layers_computes_the_same(kinds: list[str], channels: int, ops: Any) -> None:
    makes: dict[str, Callable[[], L.Layer]] = {
        "conv": lambda: conv(16),
        "strided": lambda: conv(16, 2),
        "transpose": lambda: transpose(16),
        "strided transpose": lambda: transpose(16, 2),
        "norm": lambda: L.BatchNormalization(momentum=0.9),
        "leaky": lambda: L.LeakyReLU(0.5),
        "relu": lambda: L.ReLU(),
        "to image": lambda: transpose(1),
        "crop": lambda: L.Cropping2D(((0, 0), (0, 0))),
    }
    model = network([makes[kind]() for kind in kinds], (6, 7, channels))
    x = some((4, 6, 7, channels), 0.5)
    results, _ = step(fuse(model, ops), x, model.variables)
    assert_close(results, step(model, x, model.variables)[0], 2e-3)


def test_what_is_not_a_number_goes_through_custom_operations(ops: Any) -> None:
    x = np.ones((2, 3, 4, 16), np.float32)
    x[0, 0, 0, 5] = np.nan
    fused = fuse(network(norm_and_activation(), (3, 4, 16)), ops)
    assert views(fused) == ["NormalizedLeakyReLU"]
    assert np.isnan(fused(x, training=True)).any(axis=(0, 1, 2)).nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("over_replicas", [False, True])
def test_fused_batch_normalisation_equals_kerass_over_several_steps(over_replicas: bool) -> None:
    layers = synchronized(norm()) if over_replicas else norm()
    model, reference = (network(made, (5, 6, 7)) for made in (layers, norm()))
    fused = fuse(model)
    assert views(fused) == ["FusedBatchNormalization"]
    rng = np.random.default_rng(0)
    for number in range(3):
        x = tf.constant(rng.normal(3, 2, (4, 5, 6, 7)).astype(np.float32))
        weights = tf.constant(rng.normal(size=x.shape).astype(np.float32))
        results = []
        for computed, own in ((fused, model), (reference, reference)):
            variables = [x, *(variable.value for variable in own.trainable_variables)]
            with tf.GradientTape() as tape:
                tape.watch(variables)
                y = computed(x, training=True)
                loss = tf.reduce_sum(y * weights)
            results.append([y, *tape.gradient(loss, variables)])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4, err_msg=f"step {number}")
        for a, b in zip(model.non_trainable_variables, reference.non_trainable_variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)
    np.testing.assert_allclose(fused(x), reference(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_synchronised_batch_normalisation_in_half_precision_is_near_that_in_whole(policy: str) -> None:
    x = some((4, 5, 6, 7), 3.0)
    results = []
    for dtype in (policy, "float32"):
        model = network(synchronized(norm(dtype=dtype)), (5, 6, 7))
        fused = fuse(model)
        assert views(fused) == ["FusedBatchNormalization"]
        results.append(step(fused, x, model.variables)[0])
    for a, b in zip(*results, strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.03 * np.abs(b).max())


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (conv_network, {"activation": "relu"}),
        (conv_network, {"activation": "tanh"}),
        (conv_network, {"activation": "softplus", "normalization": "none"}),
        (mlp, {"activation": "silu", "normalization": "batch", "widths": [20, 10]}),
        (gated_mlp, {"width": 20}),
        (burgess, {}),
        (burgess, {"activation": "leaky_relu"}),
        (linear, {}),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)).rpartition(".")[2],
)
def test_networks_of_other_activations_compute_the_same_with_and_without_custom_operations(
    model: ModuleType, keys: dict[str, Any], ops: Any
) -> None:
    autoencoder = build((16, 16, 1), 3, model=model, **keys)
    for plain, x in ((autoencoder.encoder, some((4, 16, 16, 1), 0.5)), (autoencoder.decoder, some((4, 3), 0.0))):
        expected, _ = step(plain, x, plain.variables)
        for custom_ops in (None, ops):
            fused = fuse(plain, custom_ops)
            if keys.get("activation") != "leaky_relu":
                assert not {view for view in views(fused) if "LeakyReLU" in view or "Folded" in view}
            assert_close(step(fused, x, plain.variables)[0], expected)
