import numpy as np

from vae_runner.models.mlp import build
from vae_runner.models.posterior import DiagonalGaussian


def test_depth_and_width_make_the_hidden_layers_of_both_networks() -> None:
    autoencoder = build((9, 8, 3), 4, DiagonalGaussian, depth=3, width=10)

    pixels = 9 * 8 * 3
    hidden = 2 * (10 * 10 + 10)
    assert autoencoder.encoder.count_params() == pixels * 10 + 10 + hidden + 2 * (10 * 4 + 4)
    assert autoencoder.decoder.count_params() == 4 * 10 + 10 + hidden + 10 * pixels + pixels


def test_images_come_out_in_their_shape_and_in_the_unit_interval() -> None:
    autoencoder = build((9, 8, 3), 4, DiagonalGaussian, normalization="batch")
    images = autoencoder.reconstruct(np.random.default_rng(0).random((5, 9, 8, 3), np.float32)).numpy()
    assert images.shape == (5, 9, 8, 3)
    assert images.min() >= 0
    assert images.max() <= 1
