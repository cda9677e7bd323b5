"""vae-runner's own compiled step, without the command around it: the fashion experiment as YAML composes it."""

import numpy as np
import tensorflow as tf
from hydra import compose, initialize_config_module

from benchmarks.peers import Setting, images_per_second
from vae_runner import hardware
from vae_runner.config import build, register_schemas
from vae_runner.datasets.pipeline import Batches
from vae_runner.training.inner import InnerLoop
from vae_runner.training.schedules import LearningRate


def measure(images: np.ndarray, setting: Setting, overrides: tuple[str, ...] = ()) -> float:
    """Images a second."""
    train, inner = prepare(images, setting, overrides)
    state = {"step": 0, "elements": train.epoch(0)}

    def take(steps: int) -> None:
        while steps > 0:
            now = min(steps, train.steps - state["step"] % train.steps)
            inner.train(train, state["elements"], state["step"], now)
            state["step"] += now
            steps -= now
            if state["step"] % train.steps == 0:
                state["elements"] = train.epoch(state["step"] // train.steps)

    return images_per_second(take, setting)


def prepare(images: np.ndarray, setting: Setting, overrides: tuple[str, ...] = ()) -> tuple[Batches, InnerLoop]:
    """The training batches and the inner loop of `vae-run dataset=fashion` for these images."""
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
    machine = hardware.setup(config.hardware, config.seed)
    with machine.strategy.scope():
        autoencoder = build(
            config.model,
            image_shape=images.shape[1:],
            latent=config.latent,
            posterior=build(config.posterior),
        )
        train = Batches(images, config.batch_size, config.seed)
        learning_rate = LearningRate(config.optimizer.learning_rate, build(config.schedule), config.epochs, train.steps)
        optimizer = build(config.optimizer, learning_rate=learning_rate)
        optimizer.build(autoencoder.trainable_variables)
    tf.config.list_logical_devices()
    return train, InnerLoop(autoencoder, build(config.loss), optimizer, machine, config.seed, train.steps)
