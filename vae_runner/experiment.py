"""From a configuration to the parts of an experiment, and the checks that they fit each other."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from omegaconf import DictConfig

import vae_runner.schema  # noqa: F401 (registers what a configuration may name)
from vae_runner.compat.keras import unallocated
from vae_runner.config.instantiation import build
from vae_runner.errors import DAMAGED, UserError
from vae_runner.losses.base import Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.variables import Variables
from vae_runner.storage import resume
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.training.player import Player
from vae_runner.training.schedules import LearningRate

AUTOENCODER_PARTS = ("model", "posterior", "prior", "likelihood")
MAX_SIDE = 65_536  # pixels of a stored autoencoder's images


def build_autoencoder(config: DictConfig, image_shape: tuple[int, int, int]) -> Autoencoder:
    """Return the autoencoder that a configuration describes, for images of this shape."""
    families = {name: build(config[name]) for name in ("posterior", "prior", "likelihood")}
    encoder, decoder = build(
        config.model, image_shape=image_shape, latent=config.latent, posterior=families["posterior"],
        likelihood=families["likelihood"],
    )  # fmt: skip
    return Autoencoder(encoder, decoder, **families)


def build_players(
    config: DictConfig, loss: Loss, autoencoder: Autoencoder, steps_per_epoch: int, replicas: int
) -> dict[str, Player]:
    """Return the players of a loss, each with an optimizer of its own: `loss.players.NAME`, or one like the run's.

    Raises:
        UserError: an optimizer has no learning rate, or would do something else on several devices.
    """
    schedule = build(config.schedule)
    nodes = config.loss.get("players") or {}
    players = {}
    for name, variables in loss.players(autoencoder).items():
        node = nodes.get(name) or config.optimizer
        if "learning_rate" not in node:
            where = node._get_full_key(None)
            raise UserError(f"{where} has no learning_rate: its YAML needs that key, the highest one of the run")
        learning_rate = LearningRate(node.learning_rate, schedule, config.epochs, steps_per_epoch)
        optimizer = build(node, learning_rate=learning_rate)
        if replicas > 1 and getattr(optimizer, "gradient_accumulation_steps", None):
            raise UserError("optimizer.gradient_accumulation_steps: Keras accumulates on one device only; leave it out")
        if config.hardware.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        players[name] = Player(variables, optimizer, learning_rate)
    return players


def load(directory: RunDirectory, trust: Sequence[str] = ()) -> Autoencoder:
    """Return the trained autoencoder of a run, rebuilt from its configuration.

    Raises:
        UserError: its files are damaged, or its configuration names code that is not in vae_runner or `trust`.
    """
    config = resume.stored_configuration(directory, trust, parts=AUTOENCODER_PARTS)
    weights = directory.weights
    shape = weights.pop("image_shape", np.zeros(0))
    if shape.shape != (3,) or shape.dtype.kind != "i" or not all(0 < side <= MAX_SIDE for side in shape):
        raise UserError(f"{directory.path}/models/weights.npz does not say of what images it is: {DAMAGED}")
    with unallocated():
        autoencoder = build_autoencoder(config, (int(shape[0]), int(shape[1]), int(shape[2])))
        variables = Variables(autoencoder.parts)
        if mismatch := variables.mismatch(weights):
            raise UserError(f"{directory.path}/models/weights.npz: {mismatch}: {DAMAGED}")
    variables.assign(weights)
    return autoencoder


def synchronize_normalization(autoencoder: Autoencoder, synchronized: bool) -> None:
    """Let batch normalisation take its moments over the images of all replicas, or of each replica alone."""
    for network in (autoencoder.encoder, autoencoder.decoder):
        for layer in _layers(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized


def _layers(network: keras.Model) -> list[Any]:
    """Return the layers of a network, those of networks in it too."""
    nested = (_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in network.layers)
    return [layer for layers in nested for layer in layers]
