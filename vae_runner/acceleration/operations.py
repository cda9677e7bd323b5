"""The custom operations of a run: compiled early, in the background, and loaded when its hardware is set up."""

import logging
from functools import cache
from types import ModuleType

from vae_runner.acceleration.custom_ops import compiling
from vae_runner.acceleration.custom_ops.compiling import UnavailableError
from vae_runner.errors import UserError
from vae_runner.runtime.schema import HardwareConfig, takes_custom_ops

log = logging.getLogger(__name__)


def begin(hardware: HardwareConfig) -> None:
    """Begin to compile in the background, if a run with this hardware can use the operations."""
    if hardware.custom_ops is not False and takes_custom_ops(hardware):
        compiling.begin()


def load_for(hardware: HardwareConfig) -> ModuleType | None:
    """Return the operations for a run with this hardware; None where it does not use them.

    Raises:
        UserError: `custom_ops` is true, and they are not available.
    """
    import tensorflow as tf  # `begin` is called before this import, which takes seconds.

    from vae_runner.acceleration.custom_ops import loading

    on_cpu = hardware.device == "cpu" or (hardware.gpus is None and not tf.config.list_physical_devices("GPU"))
    possible = takes_custom_ops(hardware) and on_cpu
    if hardware.custom_ops is False or (hardware.custom_ops == "auto" and not possible):
        return None
    try:
        if not possible:
            raise UnavailableError("custom operations are for fused layers in float32 on a CPU")
        return loading.load()
    except UnavailableError as error:
        if hardware.custom_ops is True:
            raise UserError(f"hardware.custom_ops=true: {error}; leave it out to train without them") from error
        _warn(str(error))
        return None


@cache  # not in every run of a sweep
def _warn(reason: str) -> None:
    log.warning(f"No custom operations, a step takes longer: {reason} (hardware.custom_ops=false hides this warning)")
