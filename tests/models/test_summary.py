from dataclasses import replace

import pytest

from tests.networks import build
from tests.small_experiments import NETWORK, built
from vae_runner.errors import UserError
from vae_runner.losses.adversarial import Adversarial
from vae_runner.models import mlp
from vae_runner.models.summary import check_memory, summarize, training_bytes, training_flops
from vae_runner.priors.mixture import Mixture
from vae_runner.priors.vamp import Vamp


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
        assert training_bytes(autoencoder, images, draws=1) == 4 * (4 * weights + images * inputs)


def test_pseudo_inputs_are_encoded_too_and_every_draw_is_decoded() -> None:
    autoencoder = build((9, 8, 3), 4, model=mlp, width=10)
    prior = Vamp(pseudo_inputs=50)
    prior.create_weights((9, 8, 3), (4,), 0)
    pixels = 9 * 8 * 3
    encoder, decoder = 4 * (pixels + 10 + 10), 4 * (4 + 10 + 10)  # bytes for an image
    alone = training_bytes(autoencoder, 7, draws=1)
    with_prior = training_bytes(replace(autoencoder, prior=prior), 7, draws=1)
    assert with_prior - alone == 50 * encoder + 4 * 4 * 50 * pixels
    assert training_bytes(autoencoder, 7, draws=20) - alone == 7 * 19 * decoder


def test_too_many_draws_or_pseudo_inputs_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = Vamp(pseudo_inputs=50)
    prior.create_weights((9, 8, 3), (4,), 0)
    autoencoder = replace(build((9, 8, 3), 4, model=mlp, width=10), prior=prior)
    available = training_bytes(autoencoder, 7, draws=20) - 1
    monkeypatch.setattr("vae_runner.models.summary.memory", lambda: available)
    with pytest.raises(UserError, match=r"7 images, with 20 draws of z of each, and 50 pseudo-inputs .*loss\.samples"):
        check_memory(autoencoder, 7, draws=20)
    check_memory(autoencoder, 7, draws=19)


def test_a_mixture_compares_every_draw_with_each_component() -> None:
    prior = Mixture(components=30)
    prior.create_weights((9, 8, 3), (4,), 0)
    autoencoder = replace(build((9, 8, 3), 4, model=mlp, width=10), prior=prior)
    assert training_bytes(autoencoder, 7, 20, weighed=20) - training_bytes(autoencoder, 7, 20) == 4 * 7 * 20 * 30 * 4


def test_an_opponent_counts_like_a_network_that_is_given_each_image_twice() -> None:
    autoencoder, loss = build((9, 8, 3), 4, model=mlp, width=10), Adversarial(discriminator_width=5)
    loss.make_opponents(autoencoder)
    weights = (4 * 5 + 5) + (5 * 5 + 5) + (5 + 1)
    more = training_bytes(autoencoder, 7, 1, opponents=loss.opponents) - training_bytes(autoencoder, 7, 1)
    assert more == 4 * (4 * weights + 2 * 7 * (4 + 5 + 5))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            ("loss=factor", "loss.discriminator_width=60000", "loss.discriminator_depth=100"),
            r"choose a smaller .*loss\.discriminator_width or",
        ),
        (
            ("method=iwae", "loss.samples=10000", "prior=mixture", "prior.components=99999", "latent=99"),
            r"10,000 draws of z of each,.*loss\.samples, prior\.components or",
        ),
    ],
    ids=str,
)
def test_opponents_and_mixtures_that_are_too_large_are_refused_before_their_memory_is_taken(
    keys: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        built(network=(*NETWORK, *keys))
