"""The peers train the network that ours is."""

from itertools import islice

import keras
import numpy as np
import pytest

from benchmarks.peers import LATENT, Setting, ours, ours_without, tutorial
from tests.networks import build
from vae_runner.acceleration.operations import load_for
from vae_runner.runtime.schema import HardwareConfig

NORMALIZED = (
    32 + 64 + 64 + 64,
    64 + 64 + 32,
)  # filters before a batch normalisation: each peer's bias, which ours lacks


def parameters() -> list[int]:
    """Of the encoder and decoder, with the biases that the peers have and ours leaves out; trainable ones."""
    autoencoder = build((28, 28, 1), LATENT)
    networks = (autoencoder.encoder, autoencoder.decoder)
    return [
        sum(v.shape.num_elements() for v in network.trainable_variables) + biases
        for network, biases in zip(networks, NORMALIZED, strict=True)
    ]


def test_the_keras_peers_have_our_network() -> None:
    theirs = [
        sum(v.shape.num_elements() for v in m.trainable_variables) for m in (tutorial.encoder(), tutorial.decoder())
    ]
    assert theirs == parameters()


def test_the_pytorch_peers_have_our_network() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    from benchmarks.peers import torch_eager

    networks = (torch_eager.Encoder(), torch_eager.Decoder())
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == parameters()


def test_ours_is_measured_with_the_custom_operations_and_without_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = []

    def fuse(network: keras.Model, operations: object) -> keras.Model:
        given.append(operations)
        return network

    monkeypatch.setattr(ours, "fuse", fuse)
    monkeypatch.setattr(ours_without, "images_per_second", lambda take, setting: 0.0)
    images = np.zeros((256, 28, 28, 1), np.uint8)
    ours.prepare(images, Setting(device="cpu"))
    ours_without.measure(images, Setting(device="cpu"))
    operations = load_for(HardwareConfig(device="cpu"))
    assert operations is not None
    assert given == [operations, operations, None, None]


def test_the_tutorials_loop_yields_the_mean_loss_of_the_test_images_after_each_epoch() -> None:
    keras.utils.set_random_seed(0)
    grey = np.full((24, 28, 28, 1), 128, np.uint8)
    losses = list(islice(tutorial.losses_by_epoch(grey, grey[:5], batch_size=16), 2))
    # Of the untrained network: an image of a half nearly everywhere, and a posterior that is nearly the prior.
    assert all(0 <= loss < 5 for loss in losses)
