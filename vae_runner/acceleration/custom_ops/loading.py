"""The custom operations, in TensorFlow."""

import logging
import os
from functools import cache
from types import ModuleType

import tensorflow as tf

from vae_runner.acceleration.custom_ops import compiling
from vae_runner.acceleration.custom_ops.compiling import UnavailableError
from vae_runner.acceleration.custom_ops.gradients import register
from vae_runner.errors import UserError, first_line
from vae_runner.runtime.schema import HardwareConfig, takes_custom_ops

log = logging.getLogger(__name__)


def load_for(hardware: HardwareConfig) -> ModuleType | None:
    """Return the operations that a run with this hardware uses, or None; refuse custom_ops=true without them."""
    on_cpu = hardware.device == "cpu" or (hardware.gpus is None and not tf.config.list_physical_devices("GPU"))
    possible = takes_custom_ops(hardware) and on_cpu
    if hardware.custom_ops is False or (hardware.custom_ops == "auto" and not possible):
        return None
    try:
        if not possible:
            raise UnavailableError("custom operations are for fused layers in float32 on a CPU")
        return load()
    except UnavailableError as error:
        if hardware.custom_ops is True:
            raise UserError(f"hardware.custom_ops=true: {error}; leave it out to train without them") from error
        _warn(str(error))
        return None


@cache  # not in every run of a sweep
def _warn(reason: str) -> None:
    log.warning(f"No custom operations, a step takes longer: {reason} (hardware.custom_ops=false hides this warning)")


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
