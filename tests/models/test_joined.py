from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.comparing import assert_close, load_custom_ops, outputs_and_gradients
from vae_runner.models.joined import AffineMap, FoldedBlock, Heads, ImageHead, Joined, NormalizedLeakyReLU
from vae_runner.models.layers import FusedBatchNormalization, InPlaceLeakyReLU, TappedConv2DTranspose


@pytest.fixture(scope="module")
def ops() -> Any:
    return load_custom_ops()


def norm_and_activation(slope: float = 0.2) -> list[keras.layers.Layer]:
    return [FusedBatchNormalization(momentum=0.9, epsilon=1e-3), InPlaceLeakyReLU(slope)]


def folded_block(filters: int = 16, stride: int | tuple[int, int] = 1) -> FoldedBlock:
    convolution = keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)
    return FoldedBlock([convolution, *norm_and_activation()])


def image_head(channels: int = 1) -> ImageHead:
    convolution = TappedConv2DTranspose(channels, 3, padding="same", activation="sigmoid")
    return ImageHead([*norm_and_activation(), convolution])


BLOCKS = [
    (lambda: NormalizedLeakyReLU(norm_and_activation()), (3, 5, 4, 16)),
    (lambda: NormalizedLeakyReLU(norm_and_activation(0.0)), (2, 1, 1, 112)),
    (lambda: NormalizedLeakyReLU(norm_and_activation(1.0)), (7, 30, 29, 32)),
    (folded_block, (3, 7, 5, 1)),
    (lambda: folded_block(48, 2), (2, 8, 5, 1)),
    (lambda: folded_block(32), (2, 1, 1, 1)),
    (lambda: folded_block(16), (1, 40, 300, 1)),
    (image_head, (3, 7, 5, 16)),
    (lambda: image_head(3), (2, 4, 9, 48)),
    (image_head, (2, 1, 1, 32)),
    (image_head, (1, 40, 300, 64)),
]


def built(block: Joined, x: tf.Tensor) -> Joined:
    block(x)
    rng = np.random.default_rng(0)
    # Small where they are many, so that the images are not all black or white.
    block.set_weights([rng.uniform(0.1, 0.4, weight.shape) - 0.2 * (weight.ndim > 1) for weight in block.get_weights()])
    return block


def trained(block: Joined, x: tf.Tensor) -> list[Any]:
    """Outputs, gradients and weights after a step in training; of x too, and the operations it took."""
    before = block.get_weights()
    variables = [x, *(variable.value for variable in block.trainable_variables)]

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(variables)
            y = block(x, training=True)
            loss = tf.reduce_sum(y * tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y)))
        return [y, *tape.gradient(loss, variables)]

    results = [*step(), *block.get_weights()]
    block.set_weights(before)
    return [results, {op.type for op in step.get_concrete_function().graph.get_operations()}]


@pytest.mark.parametrize(("make", "shape"), BLOCKS)
def test_custom_operations_equal_tensorflows_in_outputs_gradients_and_averages(
    make: Any, shape: tuple[int, ...], ops: Any
) -> None:
    x = tf.constant(np.random.default_rng(1).normal(2, 1, shape).astype(np.float32))
    block = built(make(), x)
    theirs, kinds = trained(block, x)
    assert not any("VaeRunner" in kind for kind in kinds)
    block.custom_ops = ops
    ours, kinds = trained(block, x)
    assert any("VaeRunner" in kind for kind in kinds)
    assert_close(ours, theirs)
    np.testing.assert_array_equal(block(x), block.one_by_one(x))  # not in training: TensorFlow's


@pytest.mark.parametrize("make", [lambda: NormalizedLeakyReLU(norm_and_activation()), folded_block, image_head])
def test_custom_operations_have_gradients_of_gradients(make: Any, ops: Any) -> None:
    channels = 1 if make is folded_block else 16
    x = tf.constant(np.random.default_rng(1).normal(2, 1, (3, 4, 5, channels)).astype(np.float32))
    block = built(make(), x)

    def penalty() -> list[tf.Tensor]:
        variables = [x, *(variable.value for variable in block.trainable_variables)]
        with tf.GradientTape() as outer:
            outer.watch(variables)
            with tf.GradientTape() as inner:
                inner.watch(variables)
                loss = tf.reduce_sum(tf.sin(block(x, training=True)))
            first = inner.gradient(loss, variables)
            total = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
        return [total, *outer.gradient(total, variables)]

    theirs = penalty()
    block.custom_ops = ops
    for a, b in zip(penalty(), theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40)),
    groups=st.integers(1, 7),
    center=st.sampled_from([0.0, 100.0, -3e3]),
    spread=st.sampled_from([0.0, 1e-2, 1.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
    corner=st.sampled_from([None, 0.0, 50.0]),  # the first pixel, which the moments begin with
)
def test_the_custom_normalisation_is_that_of_the_formula_in_double_precision(
    ops: Any, shape: tuple[int, int, int], groups: int, center: float, spread: float, seed: int, corner: float | None
) -> None:
    rng = np.random.default_rng(seed)
    channels = 16 * groups
    x = rng.normal(center, spread, (*shape, channels)).astype(np.float32)
    if corner is not None:
        x[0, 0, 0] = corner
    gamma, beta = rng.uniform(0.5, 1, channels), 6 * rng.choice([-1, 1], channels)  # far from LeakyReLU's bend
    gamma, beta = gamma.astype(np.float32), beta.astype(np.float32)
    slope = 0.2 if corner is None else 1.0  # or the corner could be at the bend
    y, mean, variance = ops.vae_runner_normalized_leaky_relu(x=x, gamma=gamma, beta=beta, epsilon=1e-3, slope=slope)

    exact = x.astype(np.float64)
    expected_mean, expected_variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    normalized = (exact - expected_mean) / np.sqrt(expected_variance + 1e-3) * gamma + beta
    rounding = 1e-6 * abs(center)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-5 * np.sqrt(expected_variance.max()))
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-4, atol=rounding**2)
    expected = np.where(normalized > 0, normalized, slope * normalized)
    tolerance = 1e-5 + rounding / np.sqrt(expected_variance.min() + 1e-3) + 5e-5 * np.abs(normalized - beta)
    assert np.all(np.abs(y - expected) <= tolerance)


def test_what_is_not_a_number_goes_through_custom_operations(ops: Any) -> None:
    x = np.ones((2, 3, 4, 16), np.float32)
    x[0, 0, 0, 5] = np.nan
    block = NormalizedLeakyReLU(norm_and_activation())
    block(x)
    block.custom_ops = ops
    assert np.isnan(block(x, training=True)).any(axis=(0, 1, 2)).nonzero()[0].tolist() == [5]


def not_trainable(block: Joined) -> Joined:
    block.layers[-2 if isinstance(block, FoldedBlock) else 0].trainable = False
    return block


def synchronized(block: Joined) -> Joined:
    block.layers[-2 if isinstance(block, FoldedBlock) else 0].synchronized = True
    return block


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: NormalizedLeakyReLU(norm_and_activation()), (2, 3, 4, 8)),
        (lambda: NormalizedLeakyReLU(norm_and_activation(), dtype="mixed_bfloat16"), (2, 3, 4, 16)),
        (lambda: not_trainable(NormalizedLeakyReLU(norm_and_activation())), (2, 3, 4, 16)),
        (lambda: synchronized(NormalizedLeakyReLU(norm_and_activation())), (2, 3, 4, 16)),
        (lambda: folded_block(8), (2, 3, 4, 1)),
        (folded_block, (2, 3, 4, 2)),
        (lambda: folded_block(16, (1, 2)), (2, 3, 4, 1)),
        (lambda: synchronized(folded_block()), (2, 3, 4, 1)),
        (lambda: image_head(2), (2, 3, 4, 16)),
        (image_head, (2, 3, 4, 24)),
        (lambda: not_trainable(image_head()), (2, 3, 4, 16)),
    ],
)
def test_what_custom_operations_do_not_take_is_left_to_tensorflow(make: Any, shape: tuple[int, ...], ops: Any) -> None:
    x = tf.zeros(shape)
    block = make()
    block(x)
    block.custom_ops = ops
    _, kinds = trained(block, x)
    assert not any("VaeRunner" in kind for kind in kinds)


def test_custom_operations_refuse_channels_that_are_no_whole_groups(ops: Any) -> None:
    x, weights = tf.zeros([2, 3, 4, 24]), tf.zeros([24])
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 16"):
        ops.vae_runner_normalized_leaky_relu(x=x, gamma=weights, beta=weights, epsilon=1e-3, slope=0.2)


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
