"""From the hardware configuration to TensorFlow's devices, XLA, precision and threads."""

import logging
import os
import platform
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import keras
import tensorflow as tf

from vae_runner.compat.tensorflow import check_machines_every, is_deterministic
from vae_runner.errors import UserError
from vae_runner.runtime.cluster import Cluster, wait_for_all
from vae_runner.runtime.schema import HardwareConfig
from vae_runner.runtime.surroundings import driver_version, processor

log = logging.getLogger(__name__)

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
SECONDS_BETWEEN_CHECKS = 1
SECONDS_TO_JOIN = 60  # after all machines have been reached


@dataclass(frozen=True)
class Hardware:
    """What a run computes on: all of training goes through `strategy`, and XLA compiles its steps if `jit_compile`."""

    strategy: tf.distribute.Strategy
    jit_compile: bool
    description: dict[str, object]  # for run.json and the summary
    synchronized: bool = False  # whether batch normalisation takes its moments over all replicas
    cluster: Cluster | None = None  # None: this machine alone
    custom_ops: ModuleType | None = None  # None: TensorFlow's operations alone

    @property
    def replicas(self) -> int:
        """Return how many devices share a batch, on all machines."""
        return int(self.strategy.num_replicas_in_sync)

    def all_reduce_max(self, value: float) -> float:
        """Return the maximum of all workers' values, a collective; raise one of LOST_ERRORS if a worker is gone."""
        if self.cluster is None:
            return value
        return float(_all_reduce_max(self.strategy, tf.constant(value, tf.float64)))


# What TensorFlow raises when another machine of the run is gone.
LOST_ERRORS = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


@tf.function(autograph=False)
def _all_reduce_max(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    def gathered(value: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(value[tf.newaxis], axis=0)

    return tf.reduce_max(strategy.experimental_local_results(strategy.run(gathered, args=(value,)))[0])


def setup(
    config: HardwareConfig, seed: int, cluster: Cluster | None = None, custom_ops: ModuleType | None = None
) -> Hardware:
    """Set TensorFlow's and Keras's global state as configured, before anything is computed; return the hardware.

    With a `cluster` it waits for the other machines, so `custom_ops`, which take time to compile, come before.

    Raises:
        UserError: another machine cannot be reached, a GPU is asked for where there is none, or a setting that
            TensorFlow fixes when it starts differs from that of an earlier run in this process (a sweep's).
    """
    keras.utils.clear_session()  # of an earlier run in this process: layers' names, functions' kernels
    gpus = _choose_gpus(config)
    try:
        _set_devices(config, gpus)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"hardware: devices, GPU memory and threads cannot change within one process ({error}): sweep over them in "
            "separate commands"
        ) from error
    if cluster:
        strategy = _joined(cluster, len(gpus))
    else:
        devices = [f"GPU:{i}" for i in range(len(gpus))] or [f"CPU:{i}" for i in range(config.logical_cpus)]
        mirrored = config.distribution == "mirrored"
        strategy = _mirrored(*devices) if mirrored else tf.distribute.OneDeviceStrategy(devices[0])
    # ~/.keras/keras.json may say otherwise.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    tf.config.experimental.enable_tensor_float_32_execution(config.tensor_float32)
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(seed)  # for the first weights
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    elif is_deterministic():
        raise UserError(
            "hardware.deterministic cannot be switched off within one process: sweep over it in two commands"
        )
    single = strategy.num_replicas_in_sync == 1
    jit_compile = bool(gpus) and single if config.xla == "auto" else bool(config.xla)
    if jit_compile and not single and not gpus:
        raise UserError("hardware.xla=true: XLA does not compile steps over several CPU devices; leave it out")
    synchronized = not single if config.sync_batch_norm is None else config.sync_batch_norm
    cpu, cpu_flags = processor()
    built_for = tf.sysconfig.get_build_info() if gpus else {}
    description = {
        "device": "gpu" if gpus else "cpu",
        "gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus],
        "driver": driver_version() if gpus else None,
        "cuda": built_for.get("cuda_version"),
        "cudnn": built_for.get("cudnn_version"),
        "cpu": cpu,
        "cpu_flags": cpu_flags,
        "cores": os.cpu_count(),
        "host": platform.node(),
        "platform": platform.platform(),
        "xla": jit_compile,
        "precision": config.precision,
        "deterministic": config.deterministic,
        "replicas": strategy.num_replicas_in_sync,
        "custom_ops": custom_ops is not None,
        **({"workers": list(cluster.workers)} if cluster else {}),
    }
    return Hardware(strategy, jit_compile, description, synchronized, cluster, custom_ops)


@contextmanager
def full_precision() -> Iterator[None]:
    """Let layers made inside compute in float32, whatever `hardware.precision` says."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _set_devices(config: HardwareConfig, gpus: list[tf.config.PhysicalDevice]) -> None:
    """Set what TensorFlow fixes when it starts. After that it refuses even the value that is set, hence the tests."""
    if tf.config.threading.get_intra_op_parallelism_threads() != config.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads)
    if tf.config.threading.get_inter_op_parallelism_threads() != config.inter_op_threads:
        tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads)
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) != config.logical_cpus:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * config.logical_cpus)
    tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        if config.memory_limit_mb is not None:
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=config.memory_limit_mb)
            tf.config.set_logical_device_configuration(gpu, [limit])
        else:
            tf.config.experimental.set_memory_growth(gpu, config.memory_growth)


def _joined(cluster: Cluster, gpus: int) -> tf.distribute.Strategy:
    """Wait for all machines, and return their strategy."""
    wait_for_all(cluster)
    check_machines_every(SECONDS_BETWEEN_CHECKS, SECONDS_TO_JOIN)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": cluster.workers}), task_type="worker", task_id=cluster.index,
        num_accelerators={"GPU": gpus}, rpc_layer="grpc",
    )  # fmt: skip
    kinds = tf.distribute.experimental.CommunicationImplementation  # By default TensorFlow takes gRPC for GPUs too.
    options = tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if gpus else kinds.RING)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except (RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"hardware=multi_worker: the machines could not connect ({reason}): start all again") from error


@cache
def _mirrored(*devices: str) -> tf.distribute.Strategy:
    """Return the one such strategy of this process: TensorFlow refuses collectives that are numbered from 0 again."""
    return tf.distribute.MirroredStrategy(list(devices))


def memory() -> int:
    """Return how many bytes of main memory this process may use, by the machine's size and its container's limit."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):  # not in a container, or without a limit
        limits.append(int(CONTAINER_LIMIT.read_text()))
    return min(limits)


def _choose_gpus(config: HardwareConfig) -> list[tf.config.PhysicalDevice]:
    present = tf.config.list_physical_devices("GPU")
    if config.device == "cpu" or (config.device == "auto" and not present and config.gpus is None):
        return []
    if not present:
        asked = "hardware.device=gpu" if config.device == "gpu" else f"hardware.gpus={config.gpus}"
        raise UserError(
            f"{asked}: TensorFlow {tf.__version__} finds no GPU on this machine; use hardware=cpu, or install "
            "tensorflow[and-cuda] and a driver"
        )
    default = [0] if config.distribution == "none" else list(range(len(present)))
    wanted = default if config.gpus is None else list(config.gpus)
    where = f"hardware.gpus={wanted}"
    if len(wanted) != 1 and config.distribution == "none":
        raise UserError(f"{where}: one run on several GPUs needs hardware=mirrored, or name one GPU alone")
    if not wanted or len(set(wanted)) < len(wanted):
        raise UserError(f"{where}: name at least one GPU, and each once")
    if unknown := [number for number in wanted if not 0 <= number < len(present)]:
        raise UserError(f"{where}: there is no GPU {unknown[0]}; TensorFlow finds 0 to {len(present) - 1}")
    return [present[number] for number in wanted]


def check_same_on_all_workers(machine: Hardware, what: str) -> None:
    """Refuse to train with workers that do not all describe by the same text what they begin with."""
    number = zlib.crc32(what.encode())
    if machine.all_reduce_max(number) != -machine.all_reduce_max(-number):
        raise UserError(
            "the machines of this run were started differently: give all of them the same command, but for "
            "hardware.worker, the same images, and to go on, the same run directory"
        )
