import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.acceleration.comparing import step
from tests.networks import build
from tests.small_experiments import built, problems
from vae_runner.acceleration.fuse import fuse
from vae_runner.errors import UserError
from vae_runner.models import resnet
from vae_runner.models.resnet import groups, resolution_widths
from vae_runner.models.summary import _kept_bytes, forward_flops

IMAGES = np.random.default_rng(0).random((2, 9, 13, 3), np.float32)


def convolutions(network: keras.Model) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """Filters, side of the kernel, stride and output size of each convolution, in order."""
    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    layers = [layer for layer in network.layers if isinstance(layer, kinds)]
    return [(layer.filters, layer.kernel_size[0], layer.strides[0], tuple(layer.output.shape[1:3])) for layer in layers]


def test_blocks_at_each_resolution_and_in_the_middle_make_the_encoder_and_mirrored_the_decoder() -> None:
    autoencoder = build((9, 13, 3), 2, model=resnet, spatial=True, widths=[8, 16], downsamplings=1)
    first, second = (9, 13), (5, 7)
    assert sorted(convolutions(autoencoder.encoder)) == sorted(
        [
            *([(8, 3, 1, first)] * (1 + 2)),  # the first one, and a block
            (8, 3, 2, second),  # down
            (16, 1, 1, second),  # the skip of the block in which channels change
            *([(16, 3, 1, second)] * (2 + 4)),  # that block, and two in the middle
            *([(2, 1, 1, second)] * 2),  # mean and log_var
        ]
    )
    assert sorted(convolutions(autoencoder.decoder)) == sorted(
        [
            *([(16, 3, 1, second)] * (1 + 4)),  # of z, and two blocks in the middle
            (8, 1, 1, second),
            *([(8, 3, 1, second)] * 2),
            *([(8, 3, 1, first)] * (1 + 2)),  # after doubling, and a block
            (3, 3, 1, first),  # the image
        ]
    )
    kinds = {type(layer).__name__ for layer in autoencoder.decoder.layers}
    assert {"UpSampling2D", "Cropping2D", "GroupNormalization", "Activation", "Add"} <= kinds
    assert "MultiHeadAttention" not in kinds


def test_a_block_is_its_input_plus_convolutions_of_its_normalised_input() -> None:
    x = keras.Input((4, 5, 8))
    block = keras.Model(x, resnet._residual_block(x, 8, "block"))
    values = np.random.default_rng(0).normal(3, 2, (2, 4, 5, 8)).astype(np.float32)
    y = values
    for i in (1, 2):
        by_group = y.reshape(2, 20, 2, 4)  # groups of four channels
        centred = by_group - by_group.mean(axis=(1, 3), keepdims=True)
        y = (centred / np.sqrt((centred**2).mean(axis=(1, 3), keepdims=True) + 1e-6)).reshape(values.shape)
        y = y / (1 + np.exp(-y))
        kernel = np.array(block.get_layer(f"block_conv_{i}").kernel)
        y = tf.nn.conv2d(y.astype(np.float32), kernel, 1, "SAME").numpy()
    np.testing.assert_allclose(block(values), values + y, rtol=1e-4, atol=1e-4)


def test_with_attention_a_pixel_of_one_corner_moves_the_latents_of_the_other() -> None:
    image = np.random.default_rng(1).random((1, 64, 64, 1)).astype(np.float32)
    other = image.copy()
    other[0, 0, 0] = 1 - other[0, 0, 0]

    def corner_moves(attention: bool) -> float:
        keys = {"spatial": True, "downsamplings": 2, "widths": 4, "attention": attention}
        encoder = build((64, 64, 1), 2, model=resnet, **keys).encoder
        # Group normalisation sees all positions too, by their moments: it is left out.
        norms = [layer for layer in encoder.layers if isinstance(layer, keras.layers.GroupNormalization)]
        for layer in norms:
            layer.call = lambda x: x
        first, second = (encoder(x)["mean"][0, -1, -1] for x in (image, other))
        return float(np.abs(first - second).max())

    assert corner_moves(attention=False) == 0
    assert corner_moves(attention=True) > 0


def test_attention_is_that_of_one_head_and_counted_in_arithmetic_and_memory() -> None:
    encoder, without = (
        build((16, 16, 1), 2, model=resnet, spatial=True, downsamplings=2, widths=8, attention=attention).encoder
        for attention in (True, False)
    )
    attention = encoder.get_layer("attention")
    assert (attention.num_heads, attention.key_dim) == (1, 8)
    positions, channels = 16, 8
    products = 4 * positions * channels**2 + 2 * positions**2 * channels  # q, k, v and the output; scores and values
    assert forward_flops(attention) == 2 * products
    # What it is given, the sum that the next block is given, and scores before and after their softmax.
    kept = 2 * positions * channels + 2 * positions**2
    assert _kept_bytes(encoder) - _kept_bytes(without) == 4 * kept


@pytest.mark.parametrize(
    ("channels", "count"),
    [(1, 1), (3, 1), (4, 1), (6, 1), (8, 2), (12, 2), (32, 8), (48, 8), (64, 16), (128, 32), (512, 32)],
)
def test_groups_divide_the_channels_and_have_at_least_four_where_there_are_four(channels: int, count: int) -> None:
    assert groups(channels) == count
    assert channels % count == 0


def test_an_image_is_halved_three_times_by_default_while_its_smaller_side_stays_at_least_7() -> None:
    sizes = {8: 0, 13: 1, 28: 2, 32: 2, 64: 3, 256: 3}
    found = {side: resolution_widths((side, side + 5), None, None) for side in sizes}
    assert found == {side: [32, 64, 64, 64][: halvings + 1] for side, halvings in sizes.items()}


def test_widths_say_how_often_an_image_is_halved_unless_that_is_given() -> None:
    assert resolution_widths((28, 28), None, [8, 16, 24, 32]) == [8, 16, 24, 32]
    assert resolution_widths((28, 28), 1, 8) == [8, 8]
    with pytest.raises(UserError, match=r"model\.widths=\[8, 16\] has 2 numbers for model\.downsamplings=2: give one"):
        resolution_widths((28, 28), 2, [8, 16])
    with pytest.raises(UserError, match=r"28×30: after 5 halvings one pixel is left"):
        resolution_widths((28, 30), None, [8] * 7)


@pytest.mark.parametrize("latent", ["vector", "spatial"])
def test_every_weight_is_trained(latent: str) -> None:
    network = ("model=resnet", "model.widths=[4,8]", "model.attention=true", f"model.latent={latent}", "latent=2")
    experiment = built("model.conditional=true", "model.output_bias=mean", network=network)
    assert experiment.autoencoder.latent_shape == ((4, 4, 2) if latent == "spatial" else (2,))
    assert not list(problems(experiment, "vae", compiled=False))


def test_the_view_that_trains_computes_the_same_with_the_same_gradients() -> None:
    autoencoder = build((9, 13, 3), 2, model=resnet, spatial=True, widths=[4, 8], attention=True)
    z = np.random.default_rng(1).normal(size=(2, *autoencoder.latent_shape)).astype(np.float32)
    for network, inputs in ((autoencoder.encoder, IMAGES), (autoencoder.decoder, z)):
        plain, fused = (step(one, tf.constant(inputs), network.variables)[0] for one in (network, fuse(network)))
        for expected, found in zip(plain, fused, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
            assert np.isfinite(expected).all()
