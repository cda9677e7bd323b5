"""From Python what the commands do: `train` a run, `load` a finished one, and put arrays through it.

All are for notebooks and programs of others: nothing ends the process, and what a run changes in this process (signal
handlers, loggers, random numbers of Python and NumPy, settings of Keras and Matplotlib) is as it was before when it has
ended. TensorFlow and Keras offer no way to put back the seed that `keras.utils.set_random_seed` gives them, Keras's
names of layers, which begin anew, and deterministic operations, which `hardware.deterministic` switches on for good.
"""

import importlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vae_runner.acceleration import operations
from vae_runner.cli import resume as resume_command
from vae_runner.cli.composing import NO_SWEEP, as_hydra_reads, check_is_no_sweep, composed
from vae_runner.cli.evaluate import entries_of
from vae_runner.cli.evaluation_config import evaluation_config
from vae_runner.cli.one_run import do_run
from vae_runner.cli.rerun import taken_out
from vae_runner.config.choices import parsed, without_nothing
from vae_runner.config.keys import leaves
from vae_runner.config.refusals import quoted
from vae_runner.errors import DAMAGED, UntrustedError, UserError
from vae_runner.evaluation.metrics import metrics_of
from vae_runner.files.atomic import writing
from vae_runner.files.folders import LOG, make_next_folder, with_home
from vae_runner.runtime import environment
from vae_runner.runtime.console import ConsoleHandler, LogFile
from vae_runner.storage.catalog import RunRecord
from vae_runner.stored_model import Floats, Given, Pixels, StoredModel
from vae_runner.sweeps.names import register_resolver
from vae_runner.trackers.evaluation import scalars

OURS = "vae_runner"  # the logger of all our messages

register_resolver()


@contextmanager
def _callers_settings_kept() -> Iterator[None]:
    """Put back at the end what a run sets for the whole process."""
    policy, floats = keras.config.dtype_policy(), keras.config.floatx()
    data_format = keras.config.image_data_format()
    tensor_float_32 = tf.config.experimental.tensor_float_32_execution_enabled()
    random_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (the caller may use it)
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # figures look as we draw them
            yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_floatx(floats)
        keras.config.set_image_data_format(data_format)
        tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
        random.setstate(random_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def _trust_is_a_list() -> Iterator[None]:
    """Let what asks for trust inside ask for it as Python has it."""
    try:
        yield
    except UntrustedError as error:
        raise UntrustedError(error.problem, error.module, "trust=['{}'] to vae_runner.load") from error


class Run:
    """A finished run: its numbers, and its autoencoder as functions of arrays.

    Images are uint8 `[n, height, width, channels]`, where they are grey also `[n, height, width]`, of the size of the
    run's own; where the run makes its images black and white, these are made so too. Latents are float32
    `[n, latent]`. Where the run is conditional, `labels` are names or numbers of classes: one for all, or one for each.
    """

    def __init__(self, model: StoredModel, trust: Sequence[str] = ()) -> None:
        self._model = model
        self._trust = trust

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Return the run's directory."""
        return self._model.run.path

    @property
    def config(self) -> DictConfig:
        """Return the run's configuration: `run.config.loss.kl_weight`."""
        return self._model.run.config

    @property
    def metrics(self) -> Any:
        """Return the numbers of each epoch: a data frame of pandas; without it, a dictionary of columns."""
        rows = self._model.run.history
        if not rows:
            raise UserError(f"{self._model.run.metrics_file} has no rows: {DAMAGED}")
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        try:
            import pandas
        except ImportError:
            return columns
        return pandas.DataFrame(columns)

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes that the run depends on; none where it does not."""
        return self._model.class_names

    def encode(self, images: ArrayLike, labels: Given = None, *, draws: int = 0, seed: int = 0) -> Floats:
        """Return the means of the images' posteriors, `[n, latent]`, or so many draws of each, `[n, draws, latent]`.

        Raises:
            UserError: the images or labels are not of the run's kind, or there is nothing to draw.
        """
        _check_whole(draws, "draws", 0)
        _check_whole(seed, "the seed", 0)
        pixels = self._model.checked(images)
        of_images = self._model.labels(labels, len(pixels))
        latents = self._model.encode(pixels, of_images, draws, np.random.default_rng(seed))
        return latents.means if latents.draws is None else latents.draws

    def decode(self, z: ArrayLike, labels: Given = None) -> Pixels:
        """Return the images that latents `[n, latent]`, or maps of them, are decoded to.

        Raises:
            UserError: the latents or labels are not of the run's kind.
        """
        latents = self._model.latents(z)
        return self._model.decode(latents, self._model.labels(labels, len(latents)))

    def reconstruct(self, images: ArrayLike, labels: Given = None) -> Pixels:
        """Return the images, decoded from the means of their posteriors.

        Raises:
            UserError: the images or labels are not of the run's kind.
        """
        return self.decode(self.encode(images, labels), labels)

    def sample(self, number: int = 64, labels: Given = None, *, seed: int = 0) -> Pixels:
        """Return so many images, decoded from draws of the prior; where classes matter, by default of each in turn.

        Raises:
            UserError: there are no such classes, or a number is no whole one, or too small.
        """
        _check_whole(number, "the number of images", 1)
        _check_whole(seed, "the seed", 0)
        of_images = self._model.labels_in_turn(number) if labels is None else self._model.labels(labels, number)
        return self._model.decode(self._model.sample(number, of_images, seed), of_images)

    @_callers_settings_kept()
    def evaluate(self, *overrides: str, again: bool = False, **keywords: object) -> dict[str, float]:
        """Measure what `vae-evaluate` measures, with its overrides; return the values, which the run keeps.

        What has been measured before is measured only `again`.

        Raises:
            UserError: an override makes no sense, or the run's images are not there.
        """
        config = evaluation_config(_overrides(overrides, keywords))
        with _trust_is_a_list():
            entries = entries_of(self._model.run, config, self._trust, {}, again=again)
        return scalars({metric.name: entries[metric.name] for metric in metrics_of(config)})


@_callers_settings_kept()
def load(run: str | Path | RunRecord, trust: Sequence[str] = ()) -> Run:
    """Return the finished run in a directory, or that of a record of `runs`.

    `trust` names modules of other people's that it may use. The run is found again from any current folder.

    Raises:
        UserError: there is none, or it is damaged, or names code that is not trusted.
    """
    path = run.path if isinstance(run, RunRecord) else with_home("run", run)
    with _trust_is_a_list():
        return Run(StoredModel.open(path.absolute(), trust), trust)


def train(*overrides: str, directory: str | Path | None = None, **keywords: object) -> Run:
    """Do what `vae-run` does, and return the finished run.

    Overrides are as on the command line, `train("method=beta_vae", "loss.kl_weight=4")`; keywords are keys of Python
    values, where a text is taken as it is, and dictionaries what is below a key:
    `train(dataset="mnist", epochs=5, loss={"kl_weight": 4})`. The run is written into `directory`, or a new folder in
    `outputs/`.

    Raises:
        UserError: the configuration makes no sense, or does not fit the data or the machine, or training diverged.
        KeyboardInterrupt: it was interrupted; the run is in a checkpoint, and its text says how to continue it.
    """
    given = without_nothing(_overrides(overrides, keywords))
    if directory is not None:
        given.append(f"hydra.run.dir={quoted(with_home('directory', directory))}")
    check_is_no_sweep(given, NO_SWEEP)
    environment.check()
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras computes with {keras.backend.backend()} in this process: import vae_runner before Keras, or set "
            "KERAS_BACKEND=tensorflow"
        )
    OmegaConf.register_new_resolver("next_folder", str, replace=True)  # A command would make the folder; we do, below.
    for_hydra, rerun = taken_out(given)
    arguments = resume_command.rewritten(for_hydra)
    config = composed(arguments, with_hydra=True)
    hydra = config.hydra
    with read_write(config), open_dict(config):
        del config["hydra"]
    path = Path(hydra.run.dir).absolute()
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        with writing(path):
            path = make_next_folder(path)
    with read_write(hydra), open_dict(hydra):
        hydra.run.dir = hydra.runtime.output_dir = str(path)

    def module() -> ModuleType:
        operations.begin(config.hardware)
        return importlib.import_module("vae_runner.run")

    with _callers_settings_kept(), _logged(path / LOG):
        do_run(config, hydra, given, module, rerun)
    targets = [str(value) for key, value in leaves(OmegaConf.to_container(config)) if key.endswith("_target_")]
    return load(path, [*config.trust, *(target.rpartition(".")[0] for target in targets)])  # as it was given


def _check_whole(number: object, what: str, least: int) -> None:
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < least:
        raise UserError(f"{what} is {number!r}: give a whole number of at least {least}")


def _overrides(overrides: Sequence[str], keywords: Mapping[str, object]) -> list[str]:
    """Return overrides as Hydra reads them: those of a command line, and those of Python's values."""
    for override in overrides:
        if not isinstance(override, str) or override.startswith("-") or "=" not in override:
            raise UserError(f"{override} is no override: give texts like 'loss.kl_weight=4', or keywords")
    return [as_hydra_reads(override) for override in overrides] + [
        override for name, value in keywords.items() for override in _of_value(name, value)
    ]


def _of_value(name: str, value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [override for key, below in value.items() for override in _of_value(f"{name}.{key}", below)]
    plain = f"{name}={value}"
    is_read_as_it_is = isinstance(value, str) and "${" not in value and [o.value() for o in parsed([plain])] == [value]
    return [plain if is_read_as_it_is else f"{name}={_written(value)}"]


def _written(value: object) -> str:
    """Return a value as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, np.generic):
        return _written(value.item())
    return quoted(value) if isinstance(value, (str, Path)) else repr(value)


@contextmanager
def _logged(file: Path) -> Iterator[None]:
    """Print what a run says, and write it into its log, while inside."""
    logger = logging.getLogger(OURS)
    handlers: list[logging.Handler] = [ConsoleHandler(), LogFile(str(file))]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    handlers[1].setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
