"""From a configuration to the parts of an experiment, and the checks that they fit each other."""

import gc
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
from hydra.utils import get_class
from numpy.typing import NDArray
from omegaconf import DictConfig

from vae_runner.acceleration.fuse import fuse
from vae_runner.compat.keras import unallocated
from vae_runner.config import registry
from vae_runner.config.checks import check_values
from vae_runner.config.fingerprint import fingerprint
from vae_runner.config.instantiation import build, keys_of, takes
from vae_runner.config.registry import Built
from vae_runner.datasets.binarization import build_dataset
from vae_runner.datasets.dataset import Dataset, Split, check_labels, data_changes, mean_image
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import DAMAGED, UserError, counted, did_you_mean, first_line
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject, Training
from vae_runner.figures.trained import Trained
from vae_runner.likelihoods.base import check_levels
from vae_runner.losses.base import AUTOENCODER, Loss, check_densities
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import synchronize_normalization
from vae_runner.models.output_bias import begin_at_mean
from vae_runner.models.schema import PARTS
from vae_runner.models.summary import check_memory, training_bytes
from vae_runner.models.variables import Variables
from vae_runner.posteriors.base import CodePosterior
from vae_runner.runtime.hardware import Hardware, check_same_on_all_workers, full_precision, memory
from vae_runner.schema import Config
from vae_runner.storage import resume
from vae_runner.storage.stored_run import StoredRun, source_of_weights
from vae_runner.training.averages import Averages
from vae_runner.training.batch_size import STEPS, candidates, largest
from vae_runner.training.checkpoints import TrainingState
from vae_runner.training.early_stopping import OTHER_METRICS, check_metric, should_stop
from vae_runner.training.inner import OF_CODES, InnerLoop, Player
from vae_runner.training.outer import Trainer
from vae_runner.training.schedules import LearningRate
from vae_runner.training.selection import Row, Selection
from vae_runner.training.skipping import Skipping
from vae_runner.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

AUTOENCODER_PARTS = ("model", "posterior", "prior", "likelihood")
MAX_SIDE = 65_536  # pixels of a stored autoencoder's images
MAX_CLASSES = 1_000_000  # of a stored autoencoder's labels
# A step takes more bytes than `training_bytes` counts, which is the least: 1.1 to 2.2 for each were measured on a CPU,
# of model=conv, mlp and resnet, and of method=iwae.
WORKING_BYTES = 2.5
PART_OF_MEMORY = 0.5  # A batch may take that much by itself: the rest is for the images, other processes, and figures.


@dataclass(frozen=True)
class Experiment:
    """What a configuration makes: the parts that training needs."""

    config: Config
    machine: Hardware
    dataset: Dataset
    loss: Loss
    autoencoder: Autoencoder  # as it is trained
    result: Autoencoder  # as it is evaluated and saved: the same, or with optimizer.ema that of averaged weights
    fused: Autoencoder  # the result, computed faster unless hardware.fuse=false
    trainer: Trainer
    state: TrainingState
    selection: Selection  # of which epoch the models are

    @property
    def is_over(self) -> bool:
        """Return whether the last epoch is done, or early stopping has come to it."""
        history = self.trainer.history
        return len(history) >= self.config.epochs or should_stop(self.config.early_stopping, history)

    def trained(self, row: Row | None = None) -> Trained:
        """Return what figures may look at, with weights of the epoch of this row, or of the history's newest."""
        history, dataset = self.trainer.history, self.dataset
        epoch = int((row or history[-1])["epoch"])
        return Trained(self.fused, dataset.test, dataset.label_names, history, epoch, self.config.seed)

    def subject(self, row: Row | None = None) -> Subject:
        """Return what metrics may look at: the result's weights, in networks as `subject_of` makes of the stored run.

        These are weights of the epoch of this row, or of the history's newest.
        So numbers do not depend on the precision and the layers that are faster to train.
        """
        with full_precision(), unallocated():
            autoencoder = build_autoencoder(self.config, self.dataset.image_shape, self.dataset.classes)
        Variables(autoencoder.parts).assign(Variables(self.result.parts).values())
        history = self.trainer.history
        training = training_of(self.config, autoencoder, history, int((row or history[-1])["epoch"]))
        return Subject(autoencoder, self.dataset, self.config.evaluation, training)


def build_experiment(
    config: Config,
    machine: Hardware,
    stopwatch: Stopwatch,
    shielded: Callable[[], AbstractContextManager[None]] = nullcontext,
    dataset: Dataset | None = None,
) -> Experiment:
    """Build the parts that a configuration names, and check that they fit each other and the machine.

    Inside `shielded()` a stop request waits for the end of what is inside. The `dataset` may have been built before.

    Raises:
        UserError: they do not fit.
    """
    dataset = dataset or build_dataset(config.dataset)
    devices = f"{len(machine.strategy.extended.worker_devices)} {machine.description['device']}"
    # The images may lie elsewhere on every machine, and one alone writes.
    computed = fingerprint(config.content, without=["dataset.root", "checkpoint"])
    check_same_on_all_workers(machine, f"{computed} {config.profile} {dataset.fingerprint} {devices}")
    train, evaluated = _batches(dataset, config, machine)
    loss = build_loss(config.loss)

    def check_size(opponents: Sequence[keras.Model]) -> None:
        if machine.description["device"] == "cpu":
            images = min(config.images_per_step, len(dataset.train))
            check_memory(autoencoder, images, loss.draws, _weighed(loss), opponents)

    with machine.strategy.scope():
        with unallocated():
            autoencoder = build_autoencoder(config, dataset.image_shape, dataset.classes)
            networks = (autoencoder.encoder, autoencoder.decoder)
            check_size([])
        if autoencoder.classes:
            check_labels(dataset)
        check_densities(loss, autoencoder.posterior, autoencoder.likelihood)
        loss.check(autoencoder)
        loss.check_dataset(dataset)
        loss.check_steps(config.epochs * train.steps)
        check_levels(autoencoder.likelihood, dataset)
        autoencoder.image_decoder()  # A likelihood whose mean cannot be saved is refused before training, not after.
        if keys_of(config.model).get("output_bias") == "mean":
            begin_at_mean(autoencoder, mean_image(dataset.train.images))
        synchronize_normalization(networks, machine.synchronized)
        view = _view(autoencoder, config, machine)
        loss.constrain(autoencoder)
        with unallocated():
            loss.make_opponents(autoencoder)
            check_size(loss.opponents)
        players = build_players(config, loss, autoencoder, train.steps, machine.replicas)
        averages = build_averages(config, autoencoder, players, train.steps, machine)
    inner = InnerLoop(
        view, loss, players, machine, config.seed, train.steps,
        augmentation=dataset.augment, binarizes=dataset.binarize == "dynamic", averages=averages,
    )  # fmt: skip
    of_split = {split: inner.names if split == "train" else inner.evaluated_names for split in dataset.splits}
    metrics = [f"{split}/{name}" for split, names in of_split.items() for name in names]
    check_metric("early_stopping.metric", config.early_stopping.metric, metrics)
    validation = [f"validation/{name}" for name in inner.evaluated_names]  # of images that there need not be
    check_metric("checkpoint.metric", config.checkpoint.metric, list(dict.fromkeys([*metrics, *validation])))
    selection = select(config, dataset, loss, autoencoder)
    _tell_of_test_metrics(config, selection)
    trainer = Trainer(inner, train, evaluated, players[AUTOENCODER].learning_rate, stopwatch, shielded)
    optimizers = {f"optimizer/{name}": player.optimizer for name, player in players.items()}
    opponents = {f"player/{name}": player for name, player in players.items() if name != AUTOENCODER}
    skipped = {f"skipped/{name}": player.skipping for name, player in players.items() if player.skipping}
    averaged = {"averages": averages} if averages else {}
    variables = Variables({**autoencoder.parts, **opponents, "loss": loss, **optimizers, **skipped, **averaged})
    state = TrainingState(trainer, variables, stopwatch, config.content, dataset.fingerprint, loss)
    result, fused = (averages.autoencoder, averages.view) if averages else (autoencoder, view)
    return Experiment(config, machine, dataset, loss, autoencoder, result, fused, trainer, state, selection)


def choose_batch_size(config: Config, dataset: Dataset, machine: Hardware) -> int:
    """Return the batch size of `batch_size=auto`: on a GPU by steps that are tried, on a CPU by an estimate.

    A machine whose main memory is spent may take other processes with it. Networks that are built afterwards begin with
    the weights that they would have had.

    Raises:
        UserError: there is no memory for the smallest.
    """
    sizes = candidates(len(dataset.train), machine.replicas)
    fits, limit = _fits_main_memory, f"more than {PART_OF_MEMORY:.0%} of memory"
    if machine.description["device"] == "gpu":
        fits, limit = _fits_gpu, "more memory than there is"
    try:
        chosen = largest(sizes, fits(config, dataset, machine))
    finally:
        gc.collect()
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
    if chosen is None:
        raise UserError(
            f"batch_size=auto: a step on {counted(sizes[0], 'image')} needs {limit}: choose a smaller model, latent or "
            "image size, or give a smaller number"
        )
    if chosen != sizes[-1]:
        why = f"a step on {2 * chosen:,} needs {limit}"
    elif 2 * chosen * STEPS <= len(dataset.train):
        why = "larger ones, which ask for a learning rate of their own, are not tried"
    elif chosen * STEPS > len(dataset.train):
        steps = counted(-(-len(dataset.train) // chosen), "step")
        why = f"the smallest, an image for each device, with which an epoch has {steps}"
    else:
        why = (
            f"the largest with which an epoch of {len(dataset.train):,} training images has at least {STEPS} full steps"
        )
    log.info("Batch size: %s (batch_size=auto): %s", counted(chosen, "image"), why)
    return chosen


def _fits_main_memory(config: Config, dataset: Dataset, machine: Hardware) -> Callable[[int], bool]:
    """Return what tells whether main memory suffices for a step on so many images."""
    loss = build_loss(config.loss)
    with machine.strategy.scope(), unallocated():
        autoencoder = build_autoencoder(config, dataset.image_shape, dataset.classes)
        loss.make_opponents(autoencoder)

    def fits(images: int) -> bool:
        least = training_bytes(autoencoder, images, loss.draws, _weighed(loss), loss.opponents)
        return WORKING_BYTES * least <= memory() * PART_OF_MEMORY

    return fits


def _fits_gpu(config: Config, dataset: Dataset, machine: Hardware) -> Callable[[int], bool]:
    """Return what tells by trial whether a GPU has the memory for a step on so many images."""

    def fits(images: int) -> bool:
        gc.collect()  # the networks of the size before, and their images on the device
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)  # The run that follows says the same again.
        try:
            experiment = build_experiment(
                replace(config, batch_size=images), machine, Stopwatch(), nullcontext, dataset
            )
            experiment.trainer.try_step()
        except tf.errors.ResourceExhaustedError:
            return False
        finally:
            logging.disable(disabled)
        return True

    return fits


def _weighed(loss: Loss) -> int:
    """Return how many draws of an image a prior that is a mixture compares with each of its components."""
    return loss.draws if loss.needs_density else 0


def select(config: Config, dataset: Dataset, loss: Loss, autoencoder: Autoencoder) -> Selection:
    """Return what chooses the epoch that the run's models are of, or why none can be chosen."""
    metric, reason = config.checkpoint.metric, ""
    if metric is None:
        reason = "checkpoint.metric=null names none to choose by"
    elif loss.opponents:
        reason = "a loss with an opponent is not lower where the models are better"
    elif isinstance(autoencoder.posterior, CodePosterior):
        reason = "a loss with codes is not lower where the models are better"
    elif metric.startswith("validation/") and dataset.validation is None:
        reason = "there are no validation images to choose another by: dataset.validation_fraction=0.1 holds some out"
    warmup_epochs = keys_of(config.schedule).get("warmup_epochs", 0)
    return Selection(
        None if reason else metric, reason, lambda epoch: epoch >= warmup_epochs and loss.is_settled(epoch)
    )


def _tell_of_test_metrics(config: Config, selection: Selection) -> None:
    """Say where test images decide about the model that is tested on them."""
    chosen_by = {"early_stopping.metric": config.early_stopping.metric}
    if config.checkpoint.models != "last":
        chosen_by["checkpoint.metric"] = selection.metric
    for key, metric in chosen_by.items():
        if metric is not None and metric.startswith("test/"):
            log.warning(
                "%s=%s: the test images decide of which epoch the models are, so test figures are no test of them; "
                "dataset.validation_fraction=0.1 holds images out, and %s=%s decides by these",
                key, metric, key, metric.replace("test/", "validation/", 1),
            )  # fmt: skip


def known_metrics(config: Config) -> list[str]:
    """Return the names of what such a run measures, as far as the configuration says; none where its loss does not."""
    try:
        loss = get_class(str(keys_of(config.loss)["_target_"]))
        terms = getattr(loss, "terms", None) if issubclass(loss, Loss) else None
        if isinstance(terms, property):  # They follow from the keys; a user's own loss is left alone.
            terms = build_loss(config.loss).terms
    except (ImportError, ValueError, UserError, NotImplementedError):  # The run says what is wrong with it.
        return []
    if not isinstance(terms, Sequence):
        return []
    validated = keys_of(config.dataset).get("validation_fraction") != 0
    splits = ("train", *(("validation",) if validated else ()), "test")
    names = [f"{split}/{name}" for split in splits for name in ("loss", *terms)]
    posterior = registry.by_target(keys_of(config.posterior).get("_target_"))
    if posterior and "codes" in posterior.gives:
        names += [f"{split}/{name}" for split in splits if split != "train" for name in OF_CODES]
    return [*names, *OTHER_METRICS]


def build_autoencoder(config: Config, image_shape: tuple[int, int, int], classes: int = 0) -> Autoencoder:
    """Return the autoencoder that a configuration describes, for images of this shape and of so many classes.

    `model.output_bias` is left to whoever has the training images.

    Raises:
        UserError: it needs labels, and there are no classes, or its network does not take any.
    """
    families = {name: build(getattr(config, name), name) for name in ("posterior", "prior", "likelihood")}
    network = keys_of(config.model)
    network.pop("output_bias", None)
    conditional = network.pop("conditional", False)
    spatial = network.pop("latent", "vector") == "spatial"
    if not conditional and not families["prior"].needs_labels:
        classes = 0
    elif not classes:
        raise UserError(
            f"{'model.conditional=true' if conditional else 'prior'} needs labels, and the images have none: give each "
            "split labels (dataset.labels=folders where sub-folders are classes), or choose dataset=digits"
        )
    if conditional and not takes(network, "model", "classes"):
        raise UserError(
            f"model.conditional=true: {network['_target_']} has no argument `classes`, how many labels there are: add "
            "it, and a second input to both networks, the label, one-hot; or leave model.conditional out"
        )
    if spatial and not takes(network, "model", "spatial"):
        raise UserError(
            f"model.latent=spatial: {network['_target_']} has no argument `spatial`: add it, and with it let the "
            "encoder give maps and the decoder take them; or leave model.latent out"
        )
    asked = {"classes": classes} if conditional else {}
    if spatial:
        asked["spatial"] = True
    encoder, decoder = build(
        network, "model", image_shape=image_shape, latent=config.latent, posterior=families["posterior"],
        likelihood=families["likelihood"], **asked,
    )  # fmt: skip
    latent_shape = (*decoder.inputs[0].shape[1:-1], config.latent)
    families["posterior"].create_weights(image_shape, latent_shape, classes)
    families["prior"].create_weights_for(families["posterior"], image_shape, latent_shape, classes)
    families["likelihood"].create_weights(image_shape, latent_shape, classes)
    return Autoencoder(encoder, decoder, **families, classes=classes, dimensions=math.prod(latent_shape))


def build_loss(part: Built | Mapping[str, object]) -> Loss:
    """Return the loss that a part of a configuration describes, without its `players`; refuse what is none."""
    keys = {name: value for name, value in keys_of(part).items() if name != "players"}
    loss = build(keys, "loss")
    if not isinstance(loss, Loss):
        raise UserError(f"loss: {keys['_target_']} is no loss: derive it from {Loss.__module__}.{Loss.__qualname__}")
    return loss


def build_players(
    config: Config, loss: Loss, autoencoder: Autoencoder, steps_per_epoch: int, replicas: int
) -> dict[str, Player]:
    """Return the players of a loss, each with an optimizer of its own: `loss.players.NAME`, or one like the run's.

    Raises:
        UserError: `loss.players` does not fit the loss, an optimizer has no learning rate, or would do something else
            on several devices.
    """
    schedule = build(config.schedule, "schedule")
    own_optimizers = keys_of(config.loss).get("players") or {}
    named, players = loss.players(autoencoder), {}
    if not (
        isinstance(own_optimizers, Mapping)
        and all(keys is None or isinstance(keys, (Mapping, Built)) for keys in own_optimizers.values())
    ):
        raise UserError("loss.players: give the names of players, and below each the keys of its optimizer")
    if unknown := min(own_optimizers.keys() - named.keys(), default=None):
        hint = did_you_mean(unknown, named)
        raise UserError(f"loss.players.{unknown}: the loss has no such player.{hint} It has {', '.join(named)}.")
    for name, variables in named.items():
        own = own_optimizers.get(name)
        optimizer, path = (own, f"loss.players.{name}") if own else (config.optimizer, "optimizer")
        keys = dict(keys_of(optimizer))
        if "learning_rate" not in keys:
            raise UserError(f"{path} has no learning_rate: its YAML needs that key, the highest one of the run")
        if keys.pop("ema", None) is not None and own:
            raise UserError(
                f"{path}.ema: only the autoencoder's weights are averaged, with optimizer.ema: leave it out"
            )
        limit = keys.pop("skip_norm_above", None)
        learning_rate = LearningRate(keys["learning_rate"], schedule, config.epochs, steps_per_epoch)
        try:
            optimizer = build(keys, path, learning_rate=learning_rate)
        except ValueError as error:  # Keras's optimizers take any keys, and refuse these by themselves.
            raise UserError(f"{path}: {keys['_target_']} does not take its keys: {first_line(error)}") from error
        if replicas > 1 and getattr(optimizer, "gradient_accumulation_steps", None):
            raise UserError("optimizer.gradient_accumulation_steps: Keras accumulates on one device only; leave it out")
        if config.hardware.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        players[name] = Player(variables, optimizer, learning_rate, None if limit is None else Skipping(limit))
    return players


def build_averages(
    config: Config, autoencoder: Autoencoder, players: Mapping[str, Player], steps_per_epoch: int, machine: Hardware
) -> Averages | None:
    """Return the average of an autoencoder's weights that `optimizer.ema` asks for, or None.

    It is to be built after all else, whose first weights are then those of a run without it.
    """
    decay = keys_of(config.optimizer).get("ema")
    if decay is None:
        return None
    averaged = build_autoencoder(config, autoencoder.image_shape, autoencoder.classes)
    synchronize_normalization((averaged.encoder, averaged.decoder), machine.synchronized)
    trained = {name: player.variables for name, player in players.items()}
    return Averages(decay, autoencoder, averaged, _view(averaged, config, machine), steps_per_epoch, trained)


def _view(autoencoder: Autoencoder, config: Config, machine: Hardware) -> Autoencoder:
    """Return the autoencoder as it is computed: faster, unless hardware.fuse=false."""
    if not config.hardware.fuse:
        return autoencoder
    encoder, decoder = (fuse(network, machine.custom_ops) for network in (autoencoder.encoder, autoencoder.decoder))
    return replace(autoencoder, encoder=encoder, decoder=decoder)


def training_of(
    config: Config, autoencoder: Autoencoder, history: Sequence[Mapping[str, float]], epoch: int
) -> Training:
    """Return how an autoencoder with weights of this epoch was trained, as far as it matters for what is said of it."""
    keys, weight = keys_of(config.loss), None
    if autoencoder.likelihood.measure is None:
        weight = keys.get("reconstruction_weight")
        weight = autoencoder.likelihood.weight if weight is None else weight
    return Training(keys, weight, config.epochs, [row for row in history if row.get("epoch", 0) <= epoch])


def load(directory: StoredRun, trust: Sequence[str] = ()) -> Autoencoder:
    """Return the trained autoencoder of a run, rebuilt from its configuration.

    Raises:
        UserError: its files are damaged, or its configuration names code that is not in vae_runner or `trust`.
    """
    stored = _stored_configuration(directory, trust, AUTOENCODER_PARTS)
    weights = directory.weights
    shape = weights.pop("image_shape", np.zeros(0))
    if shape.shape != (3,) or shape.dtype.kind != "i" or not all(0 < side <= MAX_SIDE for side in shape):
        raise UserError(f"{directory.weights_file} does not say of what images it is: {DAMAGED}")
    classes = weights.pop("classes", np.array(0))
    if classes.shape != () or classes.dtype.kind != "i" or not 0 <= classes <= MAX_CLASSES:
        raise UserError(f"{directory.weights_file} does not say of how many classes it is: {DAMAGED}")
    with full_precision(), unallocated():
        try:
            image_shape = int(shape[0]), int(shape[1]), int(shape[2])
            autoencoder = build_autoencoder(Config.of(stored), image_shape, int(classes))
        except UserError as error:
            raise UserError(f"{directory.config_file}: {error}: {DAMAGED}") from error
        variables = Variables(autoencoder.parts)
        if mismatch := variables.mismatch(weights):
            raise UserError(f"{directory.weights_file}: {mismatch}: {DAMAGED}")
    variables.assign(weights)
    return autoencoder


def subject_of(
    directory: StoredRun, config: EvaluationConfig, trust: Sequence[str] = (), **moved: str | None
) -> Subject:
    """Return what metrics may look at of a stored run: its autoencoder, and its images as `load_dataset` has them."""
    autoencoder, dataset = load(directory, trust), load_dataset(directory, trust, **moved)
    stored = Config.of(_stored_configuration(directory, trust, (*AUTOENCODER_PARTS, "dataset")))
    training = training_of(stored, autoencoder, directory.history, directory.models_epoch)
    return Subject(autoencoder, dataset, config, training)


def load_dataset(directory: StoredRun, trust: Sequence[str] = (), **moved: str | None) -> Dataset:
    """Return the dataset that a run was trained on; `moved` has keys of it that are others now, if not None.

    These say where its images are, and their factors, which a run may have been trained without.

    Raises:
        UserError: it is not there, or another one is, or the configuration names code that is not in vae_runner or
            `trust`.
    """
    stored = _stored_configuration(directory, trust, ("dataset",))
    keys = keys_of(Config.of(stored).dataset)
    for name, place in moved.items():
        if place is not None and name not in keys:
            raise UserError(
                f"--{name.replace('_', '-')} {place}: {keys['_target_']}, which the run's images are from, has no key "
                f"{name}: leave it out"
            )
        if place is not None:
            keys[name] = place
    given = " and ".join(
        f"--{name.replace('_', '-')}" for name in ("root", "data_dir") if name in moved and name in keys
    )
    advice = f"; {given} say where the training images are now" if given else ""
    try:
        dataset = build_dataset(keys)
    except UserError as error:
        raise UserError(f"{error}{advice}") from error
    if changes := data_changes(directory.info.get("data", {}), dataset.fingerprint):
        raise UserError(f"{directory.path} was trained on other images ({changes}): bring those back{advice}")
    return dataset


def _stored_configuration(directory: StoredRun, trust: Sequence[str], parts: Sequence[str]) -> DictConfig:
    """Return the configuration of a run, with code that is trusted in these parts; refuse values out of bounds."""
    stored = resume.stored_configuration(directory, trust, parts, advice="--trust {}")
    try:
        check_values(stored)
    except UserError as error:
        raise UserError(f"{directory.config_file}: {error}: {DAMAGED}") from error
    return stored


def initialize(experiment: Experiment) -> None:
    """Give a new run what it begins with: weights of the run `init_from`, and what its loss is to be given.

    Raises:
        UserError: there is no such run, or its weights do not fit, or the machines of a run have other networks.
    """
    config, loss = experiment.config, experiment.loss
    if config.init_from is not None:
        _take_weights(experiment, config.init_from)
    loss.prepare(experiment.dataset, config.seed)
    check_same_on_all_workers(experiment.machine, f"networks {sorted(loss.frozen.items())}")


def _take_weights(experiment: Experiment, run: str) -> None:
    """Take the weights of a finished run: those of `init_parts`, or all."""
    config, variables = experiment.config, Variables(experiment.autoencoder.parts)
    source = source_of_weights(run)
    weights, own = source.weights, variables.values()
    there = [part for part in PARTS if any(_is_of(part, name) for name in weights)]
    parts = config.init_parts or PARTS
    if config.init_parts and (empty := next((part for part in parts if part not in there), None)):
        raise UserError(
            f"init_parts={config.init_parts}: the {empty} of {source.path} has no weights: name some of "
            f"{', '.join(there)}"
        )

    def values(parts: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        sources = {part: weights if part in parts else own for part in PARTS}
        return {n: value for part, arrays in sources.items() for n, value in arrays.items() if _is_of(part, n)}

    if mismatch := variables.mismatch(values(parts)):
        fitting = [part for part in there if not variables.mismatch(values([part]))]
        advice = f"give init_parts=[{','.join(fitting)}], which fit, or choose" if fitting else "choose"
        raise UserError(f"init_from={source.path}: {mismatch}: {advice} the model, latent and images of that run")
    variables.assign(values(parts))
    log.info("First weights: those of %s (%s)", source.path, ", ".join(part for part in there if part in parts))


def _is_of(part: str, variable: str) -> bool:
    return variable.partition("/")[0] == part


def _batches(dataset: Dataset, config: Config, machine: Hardware) -> tuple[Batches, dict[str, Batches]]:
    """Return the batches to train on, and those of each split to evaluate on."""
    size = config.images_per_step
    if size % machine.replicas:
        raise UserError(
            f"batch_size={size} is shared by {machine.replicas} devices, and does not divide: give a multiple of "
            f"{machine.replicas}, like {max(size // machine.replicas, 1) * machine.replicas}"
        )

    def batches(split: Split, seed: int | None = None) -> Batches:
        return Batches(split.images, size, seed, machine.strategy, split.labels)

    others = {name: split for name, split in dataset.splits.items() if name != "train"}
    return batches(dataset.train, config.seed), {name: batches(split) for name, split in others.items()}
