import numpy as np

from tests.networks import build
from vae_runner.models import gated_mlp


def test_a_layer_is_a_linear_map_times_the_sigmoid_of_another() -> None:
    encoder = build((8, 9, 1), 2, model=gated_mlp, depth=1, width=7).encoder
    rng = np.random.default_rng(0)
    encoder.set_weights([rng.normal(0, 0.5, weight.shape) for weight in encoder.get_weights()])
    images = rng.random((3, 8, 9, 1), np.float32)

    def affine(name: str, x: np.ndarray) -> np.ndarray:
        kernel, bias = encoder.get_layer(name).get_weights()
        return x @ kernel + bias

    pixels = images.reshape(3, -1)
    gated = affine("dense_1", pixels) / (1 + np.exp(-affine("gate_1", pixels)))
    np.testing.assert_allclose(encoder(images)["mean"], affine("mean", gated), rtol=1e-4, atol=1e-5)


def test_there_are_two_layers_of_300_units_in_each_network() -> None:
    autoencoder = build((28, 28, 1), 40, model=gated_mlp)
    gated = 2 * (300 * 300 + 300)
    assert autoencoder.encoder.count_params() == 2 * (784 * 300 + 300) + gated + 2 * (300 * 40 + 40)
    assert autoencoder.decoder.count_params() == 2 * (40 * 300 + 300) + gated + 300 * 784 + 784


def test_widths_are_the_encoders_and_reversed_the_decoders() -> None:
    autoencoder = build((8, 8, 1), 2, model=gated_mlp, widths=[20, 10])
    for network, widths in ((autoencoder.encoder, [20, 10]), (autoencoder.decoder, [10, 20])):
        assert [network.get_layer(f"gate_{i}").units for i in (1, 2)] == widths
