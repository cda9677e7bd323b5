"""vae-runner's own compiled step, without the command around it: the fashion experiment as YAML composes it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from hydra import compose, initialize_config_module

from benchmarks.peers import Setting, images_per_second
from vae_runner.acceleration.fuse import fuse
from vae_runner.acceleration.operations import load_for
from vae_runner.datasets.pipeline import Batches
from vae_runner.experiment import build_autoencoder, build_loss, build_players
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import synchronize_normalization
from vae_runner.runtime import hardware
from vae_runner.runtime.cluster import find
from vae_runner.schema import Config, register_schemas
from vae_runner.training.inner import InnerLoop


def measure(images: np.ndarray, setting: Setting, overrides: Sequence[str] = ()) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    train, inner, _ = prepare(images, setting, overrides)
    return images_per_second(taker(train, inner), setting)


def taker(train: Batches, inner: InnerLoop) -> Callable[[int], None]:
    """Return a function that takes a number of training steps, across epochs."""
    step, shares = 0, train.shares()

    def take(steps: int) -> None:
        nonlocal step
        inner.train(train, shares, step, steps)
        step += steps

    return take


def prepare(
    images: np.ndarray, setting: Setting, overrides: Sequence[str] = ()
) -> tuple[Batches, InnerLoop, Autoencoder]:
    """Build training batches, inner loop and autoencoder of `vae-run dataset=fashion` with `overrides`.

    `images` are those to train on, uint8 `[count, height, width, channels]`.
    """
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose(
            "config",
            [
                "dataset=fashion",
                f"hardware={setting.device}",
                f"batch_size={setting.batch_size}",
                *overrides,
            ],
        )
    config = Config.of(config)
    custom_ops = load_for(config.hardware)
    machine = hardware.setup(config.hardware, config.seed, find(config.hardware), custom_ops)
    train = Batches(images, config.batch_size, config.seed, strategy=machine.strategy)
    with machine.strategy.scope():
        autoencoder = build_autoencoder(config, images.shape[1:])
        synchronize_normalization((autoencoder.encoder, autoencoder.decoder), machine.synchronized)
        encoder, decoder = (fuse(n, machine.custom_ops) for n in (autoencoder.encoder, autoencoder.decoder))
        loss = build_loss(config.loss)
        loss.make_opponents(autoencoder)
        players = build_players(config, loss, autoencoder, train.steps, machine.replicas)
    fused = replace(autoencoder, encoder=encoder, decoder=decoder)
    inner = InnerLoop(fused, loss, players, machine, config.seed, train.steps)
    return train, inner, autoencoder
