"""Keras models in files that someone else may have written."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state  # there is no public way to give up variables that wait for values

from vae_runner.untrusted import DamagedError, json_object, reading

CONFIG = "config.json"
# A function that a file names could be any of Keras's, also one that writes a file or downloads one.
CALLERS = ("Lambda", "function", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


def load(file: Path) -> keras.Model:
    """A model of layers alone, that takes no more memory than its file; no code in it or named by it is run.

    Raises:
        DamagedError: it is no such model.
    """
    with _reading(), zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise DamagedError("it is compressed, which Keras's files are not")
        config = json_object(archive.read(CONFIG))
        for name in _class_names(config):
            if name in CALLERS:
                raise DamagedError(f"it has a {name}, which would call what it names: networks are of layers alone")
    with _reading():
        with unallocated():
            weights = keras.saving.deserialize_keras_object(config, safe_mode=True).count_params()
            _give_up()
        if weights > file.stat().st_size:
            raise DamagedError(f"it tells of {weights} weights, and is too small to hold them")
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise DamagedError("it holds no model")
    return model


@contextmanager
def unallocated() -> Iterator[None]:
    """Variables made inside have shapes, but no values; they take memory at the end, unless what is inside fails."""
    with keras.StatelessScope():
        try:
            yield
        except BaseException:
            _give_up()
            raise


def _give_up() -> None:
    global_state.set_global_attribute("uninitialized_variables", [])


@contextmanager
def _reading() -> Iterator[None]:
    with reading():
        try:
            yield
        except tf.errors.OpError as error:
            raise ValueError(error.message) from error


def _class_names(node: Any) -> Iterator[Any]:
    """Every `class_name` in a model's configuration."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part.get("class_name")
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
