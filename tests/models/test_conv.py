import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.networks import build
from vae_runner.errors import UserError
from vae_runner.models.conv import block_strides, block_widths
from vae_runner.posteriors.point import Point

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)


def convolutions(model: keras.Model) -> list[tuple[int, int, tuple[int, ...]]]:
    """Filters, stride and output shape of each convolution, in order."""
    layers = [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
    return [(layer.filters, layer.strides[0], tuple(layer.output.shape[1:])) for layer in layers]


def test_depth_4_on_28x28_is_the_tutorials_fashion_network() -> None:
    autoencoder = build((28, 28, 1), 2, depth=4)

    assert convolutions(autoencoder.encoder) == [
        (32, 1, (28, 28, 32)),
        (64, 2, (14, 14, 64)),
        (64, 2, (7, 7, 64)),
        (64, 1, (7, 7, 64)),
    ]
    assert autoencoder.encoder.get_layer("flatten").output.shape == (None, 3136)
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    assert encoder.get_layer("mean").units == encoder.get_layer("log_var").units == 2
    assert decoder.get_layer("dense").units == 3136
    assert decoder.get_layer("reshape").output.shape == (None, 7, 7, 64)
    assert convolutions(autoencoder.decoder) == [
        (64, 1, (7, 7, 64)),
        (64, 2, (14, 14, 64)),
        (32, 2, (28, 28, 32)),
        (1, 1, (28, 28, 1)),
    ]
    assert decoder.layers[-1].activation is keras.activations.sigmoid


def test_depth_5_on_256x256_is_the_tutorials_cartoon_network() -> None:
    autoencoder = build((256, 256, 3), 200, depth=5)

    assert convolutions(autoencoder.encoder) == [
        (32, 2, (128, 128, 32)),
        (64, 2, (64, 64, 64)),
        (64, 2, (32, 32, 64)),
        (64, 2, (16, 16, 64)),
        (64, 2, (8, 8, 64)),
    ]
    assert autoencoder.encoder.get_layer("flatten").output.shape == (None, 4096)
    encoder = autoencoder.encoder
    assert encoder.get_layer("mean").units == encoder.get_layer("log_var").units == 200
    assert autoencoder.decoder.get_layer("dense").units == 4096
    assert convolutions(autoencoder.decoder) == [
        (64, 2, (16, 16, 64)),
        (64, 2, (32, 32, 64)),
        (64, 2, (64, 64, 64)),
        (32, 2, (128, 128, 32)),
        (3, 2, (256, 256, 3)),
    ]


def tutorial_parameters(shape: tuple[int, int, int], latent: int, widths: list[int], flat: int) -> tuple[int, int]:
    """The tutorial's counts, by hand: kernels and biases, four a channel for batch normalisation, dense layers."""
    channels = [shape[2], *widths]
    encoder = sum(9 * a * b + b + 4 * b for a, b in zip(channels, widths, strict=False)) + 2 * (flat * latent + latent)
    outputs = [*widths[-2::-1], shape[2]]
    decoder = latent * flat + flat
    for a, b in zip([widths[-1], *outputs], outputs, strict=False):
        decoder += 9 * a * b + b + 4 * b
    return encoder, decoder - 4 * shape[2]  # the last layer has no normalisation


@pytest.mark.parametrize(
    ("shape", "latent", "widths", "flat"),
    [((28, 28, 1), 2, [32, 64, 64, 64], 3136), ((256, 256, 3), 200, [32, 64, 64, 64, 64], 4096)],
)
def test_parameters_are_the_tutorials_less_the_biases_that_batch_normalisation_cancels(
    shape: tuple[int, int, int], latent: int, widths: list[int], flat: int
) -> None:
    autoencoder = build(shape, latent)
    encoder, decoder = tutorial_parameters(shape, latent, widths, flat)

    assert autoencoder.encoder.count_params() == encoder - sum(widths)
    assert autoencoder.decoder.count_params() == decoder - sum(widths[:-1])
    without = build(shape, latent, normalization="none")
    assert without.encoder.count_params() == encoder - 4 * sum(widths)
    assert without.decoder.count_params() == decoder - 4 * sum(widths[:-1])


def test_a_point_posterior_has_one_head() -> None:
    autoencoder = build((8, 8, 1), 3, Point())
    assert autoencoder.encoder.output_names == ["mean"]


@settings(max_examples=examples(12), deadline=None)
@given(height=st.integers(8, 45), width=st.integers(8, 45), kernel=st.integers(1, 5), depth=st.integers(1, 4))
def test_any_size_from_8_up_comes_out_as_it_went_in(height: int, width: int, kernel: int, depth: int) -> None:
    shape = (height, width, 3)
    autoencoder = build(shape, 2, depth=depth, filters=2, kernel_size=kernel)

    images = np.random.default_rng(0).random((2, *shape), np.float32)
    assert autoencoder.reconstruct(images).shape == (2, *shape)


@given(side=st.integers(8, 600), depth=st.integers(1, 12))
def test_default_downsamplings_halve_as_long_as_the_smaller_side_stays_at_least_7(side: int, depth: int) -> None:
    strides = block_strides((side, side + 9), depth, None)

    assert len(strides) == depth
    size = side
    for stride in strides:
        size = -(-size // stride)
    assert size >= 7
    assert strides.count(2) == depth or -(-size // 2) < 7


@pytest.mark.parametrize(
    ("side", "depth", "downsamplings", "strides"),
    [
        (28, None, None, [1, 2, 2, 1]),
        (256, None, None, [2, 2, 2, 2, 2]),
        (8, None, None, [1, 1]),
        (64, None, None, [1, 2, 2, 2]),
        (28, 5, None, [1, 1, 2, 2, 1]),
        (28, 6, 2, [1, 1, 2, 2, 1, 1]),
        (28, 2, None, [2, 2]),
        (28, 1, None, [2]),
        (28, None, 0, [1, 1, 1, 1]),
        (28, None, 5, [2, 2, 2, 2, 2]),
    ],
)
def test_blocks_beyond_the_downsamplings_go_first_and_last_in_turn(
    side: int, depth: int | None, downsamplings: int | None, strides: list[int]
) -> None:
    assert block_strides((side, side), depth, downsamplings) == strides


def test_more_downsamplings_than_blocks_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.downsamplings=3 does not fit model\.depth=2"):
        block_strides((28, 28), 2, 3)


def test_more_downsamplings_than_the_image_has_halvings_are_refused() -> None:
    with pytest.raises(UserError, match=r"28×40: after 5"):
        block_strides((28, 40), 8, 6)


def test_widths_are_32_then_64s_unless_given() -> None:
    assert block_widths(3, None) == [32, 64, 64]
    assert block_widths(3, 16) == [16, 16, 16]
    assert block_widths(3, [1, 2, 3]) == [1, 2, 3]
    with pytest.raises(UserError, match=r"has 2 widths for model\.depth=3"):
        block_widths(3, [1, 2])


@pytest.mark.parametrize("kind", ["batch", "layer", "none"])
def test_normalisation_is_a_key(kind: str) -> None:
    autoencoder = build((8, 8, 1), 2, normalization=kind)
    names = {type(layer).__name__ for layer in autoencoder.encoder.layers}
    wanted = {"batch": "BatchNormalization", "layer": "LayerNormalization"}.get(kind)
    assert {n for n in names if "Normalization" in n} == ({wanted} if wanted else set())


def test_slope_and_momentum_reach_their_layers() -> None:
    autoencoder = build((8, 8, 1), 2, batch_norm_momentum=0.7, leaky_relu_slope=0.05)
    for model in (autoencoder.encoder, autoencoder.decoder):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                assert layer.momentum == 0.7
            if isinstance(layer, keras.layers.LeakyReLU):
                assert layer.negative_slope == 0.05


def test_the_decoder_leaves_out_the_last_line_of_an_odd_side() -> None:
    decoder = build((19, 30, 3), 2, depth=2, downsamplings=2, filters=2).decoder
    croppings = [layer.cropping for layer in decoder.layers if isinstance(layer, keras.layers.Cropping2D)]
    assert croppings == [((0, 0), (0, 1)), ((0, 1), (0, 0))]  # 5×8 → 10×16 → 10×15 → 20×30 → 19×30
