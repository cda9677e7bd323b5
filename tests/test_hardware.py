import keras
import pytest
import tensorflow as tf

from vae_runner.config import HardwareConfig
from vae_runner.errors import UserError
from vae_runner.hardware import setup

NO_GPU = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")


@NO_GPU
def test_auto_is_the_cpu_without_xla_where_there_is_no_gpu() -> None:
    machine = setup(HardwareConfig(), seed=0)
    assert machine.description["device"] == "cpu"
    assert machine.jit_compile is False


@NO_GPU
@pytest.mark.parametrize("config", [HardwareConfig(device="gpu"), HardwareConfig(gpus=[0])])
def test_a_gpu_where_there_is_none_is_refused(config: HardwareConfig) -> None:
    with pytest.raises(UserError, match="finds no GPU on this machine; use hardware=cpu"):
        setup(config, seed=0)


def test_xla_precision_and_tensor_float_32_are_set() -> None:
    try:
        machine = setup(
            HardwareConfig(device="cpu", xla=True, precision="mixed_bfloat16", tensor_float32=False), seed=0
        )
        assert machine.jit_compile is True
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
        assert machine.description["precision"] == "mixed_bfloat16"
    finally:
        setup(HardwareConfig(), seed=0)
    assert keras.config.dtype_policy().name == "float32"


def test_the_seed_decides_the_first_weights() -> None:
    def weights(seed: int) -> list[float]:
        setup(HardwareConfig(device="cpu"), seed)
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
        return layer.kernel.numpy().ravel().tolist()

    assert weights(1) == weights(1) != weights(2)


def test_threads_that_change_within_a_process_are_refused_by_name() -> None:
    tf.constant(1) + 1  # TensorFlow has started
    other = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with pytest.raises(UserError, match="threads cannot change within one process"):
        setup(HardwareConfig(device="cpu", intra_op_threads=other), seed=0)
