from tests.networks import build
from vae_runner.models import mlp
from vae_runner.models.summary import summarize, training_bytes, training_flops


def test_a_step_of_the_fashion_network_costs_90_mflop_an_image() -> None:
    autoencoder = build((28, 28, 1), 2)
    # Multiply-adds by hand: encoder 28²·9·32 + 14²·9·32·64 + 2·7²·9·64² + 2·3136·2, decoder the same with one dense.
    convolutions = 28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 2 * 7**2 * 9 * 64**2
    by_hand = 2 * convolutions + 2 * 3136 * 2 + 2 * 3136
    assert training_flops(summarize(autoencoder.encoder) + summarize(autoencoder.decoder)) == 3 * 2 * by_hand
    assert round(3 * 2 * by_hand / 1e6) == 90


def test_the_summary_adds_up_to_the_networks_parameters() -> None:
    autoencoder = build((28, 28, 1), 2)
    layers = summarize(autoencoder.encoder)
    assert sum(layer.parameters for layer in layers) == autoencoder.encoder.count_params()
    assert [layer.output_shape for layer in layers if layer.name == "conv_2"] == [(14, 14, 64)]


def test_the_memory_of_training_is_four_numbers_a_weight_and_what_goes_into_the_layers_of_each_image() -> None:
    autoencoder = build((9, 8, 3), 4, model=mlp, width=10)
    pixels = 9 * 8 * 3
    weights = (pixels * 10 + 10) + (10 * 10 + 10) + 2 * (10 * 4 + 4) + (4 * 10 + 10) + (10 * 10 + 10) + (11 * pixels)
    inputs = (pixels + 10 + 10) + (4 + 10 + 10)  # of the encoder's dense layers, the heads' once, and the decoder's
    for images in (1, 64):
        needed = training_bytes((autoencoder.encoder, autoencoder.decoder), images)
        assert needed == 4 * (4 * weights + images * inputs)
