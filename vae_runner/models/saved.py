"""Keras models in files that someone else may have written."""

import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state  # there is no public way to give up variables that wait for values

from vae_runner.files import readable
from vae_runner.untrusted import DamagedError, json_object, reading

CONFIG = "config.json"
# Layers of Keras's own that call what their configuration names, which could be anything, or bring code of their own.
CALLERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
MODELS = ("Functional", "Sequential")
MODELS_FROM = ("keras", "keras.models", "keras.src.models.functional", "keras.src.models.sequential")
PARTS = {  # what layers are configured with: objects of these modules that are of these kinds
    "keras.layers": keras.layers.Layer,
    "keras.initializers": keras.initializers.Initializer,
    "keras.regularizers": keras.regularizers.Regularizer,
    "keras.constraints": keras.constraints.Constraint,
    "keras": keras.DTypePolicy,
    "keras.dtype_policies": keras.DTypePolicy,
    "keras.src.ops.numpy": keras.Operation,  # x + y, and other arithmetic between layers
    "keras.src.ops.nn": keras.Operation,
}


def load(file: Path) -> keras.Model:
    """A model of layers alone, that takes no more memory than its file; no code in it or named by it is run.

    Raises:
        DamagedError: it is no such model.
        UnreadableError: the file cannot be read.
    """
    with _reading(), readable(file), zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise DamagedError("it is compressed, which Keras's files are not")
        config = json_object(archive.read(CONFIG))
        for part in _objects(config):
            if not _is_harmless(part):
                what = f"{part.get('module')}.{part['class_name']}"
                raise DamagedError(f"it has a {what:.100}, which could run something: networks are of layers alone")
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


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Whatever a model's configuration would have Keras make."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and "class_name" in part:
            yield part
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def _is_harmless(part: Mapping[str, Any]) -> bool:
    """Whether an object of this configuration is one that Keras writes for a network of its own layers.

    Keras joins module and name, and looks for other things where that is no name of its own: only what both of them
    say by themselves is let through.
    """
    module, name = part.get("module"), part["class_name"]
    if not isinstance(name, str) or part.get("registered_name") not in (None, name):
        return False
    if module is None:
        return name == "__keras_tensor__"
    if not isinstance(module, str) or not name.isidentifier() or name in CALLERS:
        return False
    if name in MODELS and module in MODELS_FROM:
        return True
    found = getattr(sys.modules[module], name, None) if module in PARTS else None
    return isinstance(found, type) and issubclass(found, PARTS[module])
