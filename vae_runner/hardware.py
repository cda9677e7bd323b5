"""From the hardware configuration to TensorFlow's devices, XLA, precision and threads."""

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from vae_runner.config import HardwareConfig
from vae_runner.errors import UserError

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Hardware:
    """What a run computes on: the trainer goes through `strategy`, and XLA compiles its steps if `jit_compile`."""

    strategy: tf.distribute.Strategy
    jit_compile: bool
    description: dict[str, Any]


def setup(config: HardwareConfig, seed: int) -> Hardware:
    """Set TensorFlow's and Keras's global state as configured; before anything else is computed.

    Raises:
        UserError: a GPU is asked for where there is none, or what TensorFlow fixes when it starts is to change within
            one process (the jobs of a sweep).
    """
    keras.utils.clear_session()  # what an earlier run in this process left: layers' names, functions' kernels
    gpus = _choose_gpus(config)
    try:
        # Setting what is already so would be refused too, once TensorFlow has started.
        if tf.config.threading.get_intra_op_parallelism_threads() != config.intra_op_threads:
            tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads)
        if tf.config.threading.get_inter_op_parallelism_threads() != config.inter_op_threads:
            tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads)
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            if config.memory_limit_mb is not None:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=config.memory_limit_mb)
                tf.config.set_logical_device_configuration(gpu, [limit])
            else:
                tf.config.experimental.set_memory_growth(gpu, config.memory_growth)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"hardware: devices, GPU memory and threads cannot change within one process ({error}): sweep over them in "
            "separate commands"
        ) from error
    # What ~/.keras/keras.json may say otherwise.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    tf.config.experimental.enable_tensor_float_32_execution(config.tensor_float32)
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(seed)  # the first weights
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    elif _is_deterministic():
        raise UserError(
            "hardware.deterministic cannot be switched off within one process: sweep over it in two commands"
        )
    jit_compile = bool(gpus) if config.xla == "auto" else bool(config.xla)
    return Hardware(tf.distribute.get_strategy(), jit_compile, _describe(config, gpus, jit_compile))


def memory() -> int:
    """The bytes of main memory that this process may use, as far as the machine and its container say."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):  # not in a container, or without a limit
        limits.append(int(CONTAINER_LIMIT.read_text()))
    return min(limits)


def _choose_gpus(config: HardwareConfig) -> list[Any]:
    present = tf.config.list_physical_devices("GPU")
    if config.device == "cpu" or (config.device == "auto" and not present and config.gpus is None):
        return []
    if not present:
        asked = "hardware.device=gpu" if config.device == "gpu" else f"hardware.gpus={config.gpus}"
        raise UserError(
            f"{asked}: TensorFlow {tf.__version__} finds no GPU on this machine; use hardware=cpu, or install "
            "tensorflow[and-cuda] and a driver"
        )
    wanted = list(config.gpus) if config.gpus is not None else [0]
    if len(wanted) != 1:
        raise UserError(f"hardware.gpus={wanted}: a run uses one GPU; name it alone, like hardware.gpus=[0]")
    for number in wanted:
        if not 0 <= number < len(present):
            raise UserError(
                f"hardware.gpus={wanted}: there is no GPU {number}; TensorFlow finds 0 to {len(present) - 1}"
            )
    return [present[number] for number in wanted]


def _is_deterministic() -> bool:
    from tensorflow.python.framework import config as framework_config  # there is no public way to ask

    return bool(framework_config.is_op_determinism_enabled())


def _describe(config: HardwareConfig, gpus: list[Any], jit_compile: bool) -> dict[str, Any]:
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return {
        "device": "gpu" if gpus else "cpu",
        "gpus": names,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "host": platform.node(),
        "platform": platform.platform(),
        "xla": jit_compile,
        "precision": config.precision,
        "deterministic": config.deterministic,
    }
