import keras
import numpy as np

from tests.networks import build
from vae_runner.models import mlp


def test_depth_and_width_make_the_hidden_layers_of_both_networks() -> None:
    autoencoder = build((9, 8, 3), 4, model=mlp, depth=3, width=10)

    pixels = 9 * 8 * 3
    hidden = 2 * (10 * 10 + 10)
    assert autoencoder.encoder.count_params() == pixels * 10 + 10 + hidden + 2 * (10 * 4 + 4)
    assert autoencoder.decoder.count_params() == 4 * 10 + 10 + hidden + 10 * pixels + pixels


def test_widths_are_the_encoders_layers_and_reversed_the_decoders() -> None:
    autoencoder = build((8, 8, 1), 2, model=mlp, widths=[20, 15, 10], depth=7, width=3)
    for network, widths in ((autoencoder.encoder, [20, 15, 10]), (autoencoder.decoder, [10, 15, 20])):
        dense = [layer for layer in network.layers if layer.name.startswith("dense_")]
        assert [layer.units for layer in dense] == widths


def test_images_come_out_in_their_shape_and_in_the_unit_interval() -> None:
    autoencoder = build((9, 8, 3), 4, model=mlp, normalization="batch")
    images = autoencoder.reconstruct(np.random.default_rng(0).random((5, 9, 8, 3), np.float32)).numpy()
    assert images.shape == (5, 9, 8, 3)
    assert images.min() >= 0
    assert images.max() <= 1


def test_slope_momentum_and_normalization_reach_their_layers() -> None:
    keys = {"normalization": "batch", "batch_norm_momentum": 0.7, "leaky_relu_slope": 0.05}
    autoencoder = build((9, 8, 3), 4, model=mlp, width=10, **keys)
    for model in (autoencoder.encoder, autoencoder.decoder):
        assert [model.get_layer(f"norm_{i}").momentum for i in (1, 2)] == [0.7, 0.7]
        assert [model.get_layer(f"leaky_relu_{i}").negative_slope for i in (1, 2)] == [0.05, 0.05]
        hidden = [model.get_layer(f"dense_{i}") for i in (1, 2)]
        assert [layer.use_bias for layer in hidden] == [False, False]  # the normalisation would subtract it


def test_the_image_is_float32_also_in_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        autoencoder = build((9, 8, 3), 4, model=mlp, width=10)
    finally:
        keras.config.set_dtype_policy("float32")
    assert autoencoder.encoder.get_layer("dense_1").compute_dtype == "bfloat16"
    assert autoencoder.decoder.get_layer("mean_pixels").compute_dtype == "float32"
    assert {output.dtype for output in [*autoencoder.encoder.outputs, *autoencoder.decoder.outputs]} == {"float32"}
