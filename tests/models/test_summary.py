from vae_runner.models.conv import build
from vae_runner.models.posterior import DiagonalGaussian
from vae_runner.models.summary import summarize, training_flops


def test_a_step_of_the_fashion_network_costs_90_mflop_an_image() -> None:
    autoencoder = build((28, 28, 1), 2, DiagonalGaussian)
    # Multiply-adds by hand: encoder 28²·9·32 + 14²·9·32·64 + 2·7²·9·64² + 2·3136·2, decoder the same with one dense.
    convolutions = 28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 2 * 7**2 * 9 * 64**2
    by_hand = 2 * convolutions + 2 * 3136 * 2 + 2 * 3136
    assert training_flops(summarize(autoencoder.encoder) + summarize(autoencoder.decoder)) == 3 * 2 * by_hand
    assert round(3 * 2 * by_hand / 1e6) == 90


def test_the_summary_adds_up_to_the_networks_parameters() -> None:
    autoencoder = build((28, 28, 1), 2, DiagonalGaussian)
    layers = summarize(autoencoder.encoder)
    assert sum(layer.parameters for layer in layers) == autoencoder.encoder.count_params()
    assert [layer.output_shape for layer in layers if layer.name == "conv_2"] == [(14, 14, 64)]
