"""The custom operations, in TensorFlow."""

import os
from functools import cache
from types import ModuleType

import tensorflow as tf

from vae_runner.acceleration.custom_ops import compiling
from vae_runner.acceleration.custom_ops.compiling import UnavailableError
from vae_runner.acceleration.custom_ops.gradients import register
from vae_runner.errors import first_line


@cache
def load() -> ModuleType:
    """Return the compiled operations, as functions with gradients; raise UnavailableError where there are none."""
    library = compiling.library()
    try:
        operations = tf.load_op_library(os.fspath(library))
    except tf.errors.OpError as error:
        compiling.distrust(library, first_line(error))
        raise UnavailableError(first_line(error)) from error
    register(operations)
    return operations
