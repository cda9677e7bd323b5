import keras
import pytest

from tests.networks import build
from vae_runner.errors import UserError
from vae_runner.models import burgess
from vae_runner.models.burgess import convolution_filters


def convolution(kernel: int, inputs: int, outputs: int) -> int:
    return kernel * kernel * inputs * outputs + outputs


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def test_at_64x64_it_is_the_network_of_higgins_et_al() -> None:
    autoencoder = build((64, 64, 1), 10, model=burgess)
    # Table 1 of their paper: convolutions of 32, 32, 64, 64 filters of 4×4, stride 2, a dense layer of 256, ReLU.
    encoder = convolution(4, 1, 32) + convolution(4, 32, 32) + convolution(4, 32, 64) + convolution(4, 64, 64)
    assert autoencoder.encoder.count_params() == encoder + dense(4 * 4 * 64, 256) + 2 * dense(256, 10)
    decoder = convolution(4, 64, 64) + convolution(4, 64, 32) + convolution(4, 32, 32) + convolution(4, 32, 1)
    assert autoencoder.decoder.count_params() == dense(10, 256) + dense(256, 4 * 4 * 64) + decoder


@pytest.mark.parametrize(("side", "convolutions"), [(64, 4), (32, 3)])
def test_with_32_filters_and_two_dense_layers_it_is_that_of_burgess_et_al(side: int, convolutions: int) -> None:
    autoencoder = build((side, side, 1), 10, model=burgess, filters=32, widths=[256, 256])
    inner = (convolutions - 1) * convolution(4, 32, 32)
    between = dense(256, 256)
    assert autoencoder.encoder.count_params() == (
        convolution(4, 1, 32) + inner + dense(4 * 4 * 32, 256) + between + 2 * dense(256, 10)
    )
    assert autoencoder.decoder.count_params() == (
        dense(10, 256) + between + dense(256, 4 * 4 * 32) + inner + convolution(4, 32, 1)
    )


def test_relu_is_after_every_layer_but_those_that_give_parameters() -> None:
    autoencoder = build((32, 32, 3), 2, model=burgess, widths=[20, 10])
    for network, count in ((autoencoder.encoder, 3 + 2), (autoencoder.decoder, 2 + 1 + 2)):
        activations = [layer for layer in network.layers if isinstance(layer, keras.layers.Activation)]
        assert [layer.activation for layer in activations] == count * [keras.activations.relu]
    assert [autoencoder.encoder.get_layer(f"dense_{i}").units for i in (1, 2)] == [20, 10]
    assert [autoencoder.decoder.get_layer(f"dense_{i}").units for i in (1, 2, 3)] == [10, 20, 4 * 4 * 64]


@pytest.mark.parametrize(
    ("size", "filters"),
    [
        ((8, 8), [32]),
        ((28, 28), [32, 32, 64]),
        ((64, 100), [32, 32, 64, 64]),
        ((256, 256), [32, 32, 64, 64, 64, 64]),
    ],
)
def test_images_are_halved_as_long_as_the_smaller_side_stays_at_least_4(
    size: tuple[int, int], filters: list[int]
) -> None:
    assert convolution_filters(size, None) == filters
    assert convolution_filters(size, 7) == [7] * len(filters)
    with pytest.raises(
        UserError, match=rf"has 9 numbers, and images of {size[0]}×{size[1]} are halved by {len(filters)}"
    ):
        convolution_filters(size, [1] * 9)
