"""From a configuration to the parts of an experiment, and the checks that they fit each other."""

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

import vae_runner.schema  # noqa: F401 (registers what a configuration may name)
from vae_runner.acceleration.fuse import fuse
from vae_runner.compat.keras import unallocated
from vae_runner.config.checks import check_values
from vae_runner.config.fingerprint import fingerprint
from vae_runner.config.instantiation import build
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import DAMAGED, UserError
from vae_runner.figures.trained import Trained
from vae_runner.losses.base import AUTOENCODER, Loss
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.summary import training_bytes
from vae_runner.models.variables import Variables
from vae_runner.posteriors.base import Posterior
from vae_runner.runtime.hardware import Hardware, memory
from vae_runner.storage import resume
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.checkpoints import TrainingState
from vae_runner.training.early_stopping import OTHER_METRICS, check_metric, should_stop
from vae_runner.training.inner import InnerLoop
from vae_runner.training.outer import Trainer
from vae_runner.training.player import Player
from vae_runner.training.schedules import LearningRate
from vae_runner.training.stopwatch import Stopwatch

AUTOENCODER_PARTS = ("model", "posterior", "prior", "likelihood")
MAX_SIDE = 65_536  # pixels of a stored autoencoder's images


@dataclass(frozen=True)
class Experiment:
    """What a configuration makes: the parts that training needs."""

    config: DictConfig
    machine: Hardware
    dataset: Dataset
    autoencoder: Autoencoder
    fused: Autoencoder  # the same for training and for looking at it, computed faster unless hardware.fuse=false
    trainer: Trainer
    state: TrainingState

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done, or early stopping has come to it."""
        history = self.trainer.history
        return len(history) >= self.config.epochs or should_stop(self.config.early_stopping, history)

    def trained(self) -> Trained:
        """Return what figures may look at, after the newest epoch of the history."""
        history, dataset = self.trainer.history, self.dataset
        epoch = int(history[-1]["epoch"])
        return Trained(self.fused, dataset.test, dataset.label_names, history, epoch, self.config.seed)


def build_experiment(
    config: DictConfig,
    machine: Hardware,
    stopwatch: Stopwatch,
    shielded: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Experiment:
    """Build the parts that a configuration names, and check that they fit each other and the machine.

    Inside `shielded()` a stop request waits for the end of what is inside.

    Raises:
        UserError: they do not fit.
    """
    dataset = build(config.dataset)
    check_dataset(dataset)
    devices = f"{len(machine.strategy.extended.worker_devices)} {machine.description['device']}"
    check_same_on_all_workers(machine, f"{fingerprint(_without_root(config))} {dataset.fingerprint} {devices}")
    train, evaluated = _batches(dataset, config, machine)
    loss = build_loss(config)
    with machine.strategy.scope():
        with unallocated():
            autoencoder = build_autoencoder(config, dataset.image_shape)
            _check_memory(autoencoder, min(config.batch_size, len(dataset.train)), machine)
        _check_fit(loss, autoencoder.posterior)
        autoencoder.image_decoder()  # A likelihood whose mean cannot be saved is refused before training, not after.
        synchronize_normalization(autoencoder, machine.synchronized)
        fused = autoencoder
        if config.hardware.fuse:
            encoder, decoder = (fuse(net, machine.custom_ops) for net in (autoencoder.encoder, autoencoder.decoder))
            fused = replace(autoencoder, encoder=encoder, decoder=decoder)
        players = build_players(config, loss, autoencoder, train.steps, machine.replicas)
    inner = InnerLoop(fused, loss, players, machine, config.seed, train.steps)
    metrics = [f"{split}/{name}" for split in dataset.splits for name in inner.names]
    check_metric("early_stopping.metric", config.early_stopping.metric, metrics)
    check_metric("checkpoint.metric", config.checkpoint.metric, metrics)
    trainer = Trainer(inner, train, evaluated, players[AUTOENCODER].learning_rate, stopwatch, shielded)
    optimizers = {f"optimizer/{name}": player.optimizer for name, player in players.items()}
    opponents = {f"player/{name}": player for name, player in players.items() if name != AUTOENCODER}
    variables = Variables({**autoencoder.parts, **opponents, "loss": loss, **optimizers})
    content: Any = OmegaConf.to_container(config, resolve=True)
    state = TrainingState(trainer, variables, stopwatch, content, dataset.fingerprint)
    return Experiment(config, machine, dataset, autoencoder, fused, trainer, state)


def known_metrics(config: DictConfig) -> list[str]:
    """Return the names of what such a run measures, as far as the configuration says; none where its loss does not."""
    try:
        loss: Any = get_class(config.loss._target_)
        terms = tuple(loss.terms)
    except Exception:  # whatever is wrong with a loss of the user's own is said when it is built
        return []
    validated = OmegaConf.select(config, "dataset.validation_fraction") != 0
    splits = ("train", *(("validation",) if validated else ()), "test")
    return [*(f"{split}/{name}" for split in splits for name in ("loss", *terms)), *OTHER_METRICS]


def check_same_on_all_workers(machine: Hardware, what: str) -> None:
    """Refuse to train with workers of which `what` is not the same."""
    number = zlib.crc32(what.encode())
    if machine.all_reduce_max(number) != -machine.all_reduce_max(-number):
        raise UserError(
            "the machines of this run do not begin alike: give all of them the same command, but for hardware.worker, "
            "the same images, and to go on, the same run directory"
        )


def check_dataset(dataset: Dataset) -> None:
    """Refuse images of a kind, shape or size that cannot be trained on, and labels that are not theirs."""
    for name, split in dataset.splits.items():
        shape, kind = split.images.shape, split.images.dtype
        if kind != np.uint8 or len(shape) != 4 or len(split) == 0 or shape[1:] != dataset.train.images.shape[1:]:
            raise UserError(
                f"the dataset's {name} images are {kind} of shape {shape}: they must be uint8, "
                "[n, height, width, channels], at least one, and of the same size in every split"
            )
        if split.labels is not None and len(split.labels) != len(split):
            raise UserError(f"the dataset has {len(split)} {name} images and {len(split.labels)} labels of them")
    height, width, channels = dataset.image_shape
    if min(height, width) < 8 or channels not in (1, 3):
        raise UserError(
            f"the dataset's images are {height}×{width}×{channels}: they must be at least 8×8, with 1 or 3 channels"
        )


def build_autoencoder(config: DictConfig, image_shape: tuple[int, int, int]) -> Autoencoder:
    """Return the autoencoder that a configuration describes, for images of this shape."""
    families = {name: build(config[name]) for name in ("posterior", "prior", "likelihood")}
    encoder, decoder = build(
        config.model, image_shape=image_shape, latent=config.latent, posterior=families["posterior"],
        likelihood=families["likelihood"],
    )  # fmt: skip
    return Autoencoder(encoder, decoder, **families)


def build_loss(config: DictConfig) -> Loss:
    """Return the loss that a configuration describes; `loss.players` is for `build_players`.

    Raises:
        UserError: it is none.
    """
    node = config.copy().loss
    with open_dict(node):
        node.pop("players", None)
    loss = build(node)
    if not isinstance(loss, Loss):
        raise UserError(f"loss: {node._target_} is no loss: derive it from {Loss.__module__}.{Loss.__qualname__}")
    return loss


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


def load(directory: StoredRun, trust: Sequence[str] = ()) -> Autoencoder:
    """Return the trained autoencoder of a run, rebuilt from its configuration.

    Raises:
        UserError: its files are damaged, or its configuration names code that is not in vae_runner or `trust`.
    """
    config = resume.stored_configuration(directory, trust, AUTOENCODER_PARTS, advice="--trust {}")
    try:
        check_values(config)
    except UserError as error:
        raise UserError(f"{directory.path}/config.yaml: {error}: {DAMAGED}") from error
    weights = directory.weights
    shape = weights.pop("image_shape", np.zeros(0))
    if shape.shape != (3,) or shape.dtype.kind != "i" or not all(0 < side <= MAX_SIDE for side in shape):
        raise UserError(f"{directory.path}/models/weights.npz does not say of what images it is: {DAMAGED}")
    with unallocated():
        try:
            autoencoder = build_autoencoder(config, (int(shape[0]), int(shape[1]), int(shape[2])))
        except UserError as error:
            raise UserError(f"{directory.path}/config.yaml: {error}: {DAMAGED}") from error
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


def _batches(dataset: Dataset, config: DictConfig, machine: Hardware) -> tuple[Batches, dict[str, Batches]]:
    """Return the batches to train on, and those of each split to evaluate on."""
    size = config.batch_size
    if size % machine.replicas:
        raise UserError(
            f"batch_size={size} is shared by {machine.replicas} devices, and does not divide: give a multiple of "
            f"{machine.replicas}, like {max(size // machine.replicas, 1) * machine.replicas}"
        )

    def batches(split: Split, seed: int | None = None) -> Batches:
        return Batches(split.images, size, seed, machine.strategy, split.labels)

    others = {name: split for name, split in dataset.splits.items() if name != "train"}
    return batches(dataset.train, config.seed), {name: batches(split) for name, split in others.items()}


def _without_root(config: DictConfig) -> DictConfig:
    """Return the configuration without the place of the images, which may lie elsewhere on every machine."""
    same = config.copy()
    if "root" in same.dataset:
        same.dataset.root = None
    return same


def _check_memory(autoencoder: Autoencoder, images: int, machine: Hardware) -> None:
    needed, available = training_bytes((autoencoder.encoder, autoencoder.decoder), images), memory()
    if needed > available and machine.description["device"] == "cpu":
        raise UserError(
            f"training these networks on {images} images a step takes more than {needed / 1e9:,.0f} GB of memory, and "
            f"this machine has {available / 1e9:,.0f} GB: choose a smaller model, latent, batch_size or image size"
        )


def _check_fit(loss: Loss, posterior: Posterior) -> None:
    if loss.needs_density and not posterior.has_density:
        raise UserError("loss has a KL term, and this posterior has none: choose posterior=gaussian, or loss=ae")
