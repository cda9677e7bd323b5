import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as framework_config

from vae_runner.errors import UserError
from vae_runner.runtime import hardware
from vae_runner.runtime.hardware import setup
from vae_runner.runtime.schema import HardwareConfig

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


def test_what_a_users_settings_of_keras_say_otherwise_is_put_right() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_image_data_format("channels_first")
    setup(HardwareConfig(device="cpu"), seed=0)
    assert (keras.config.floatx(), keras.config.image_data_format()) == ("float32", "channels_last")


def test_layers_are_named_as_in_a_process_that_made_none_before() -> None:
    keras.layers.Dense(1)
    setup(HardwareConfig(device="cpu"), seed=0)
    assert keras.layers.Dense(1).name == "dense"


def test_determinism_is_switched_on_and_cannot_be_switched_off_within_one_process() -> None:
    assert not framework_config.is_op_determinism_enabled()
    try:
        assert setup(HardwareConfig(device="cpu", deterministic=True), seed=0).description["deterministic"]
        assert framework_config.is_op_determinism_enabled()
        with pytest.raises(UserError, match="deterministic cannot be switched off within one process"):
            setup(HardwareConfig(device="cpu"), seed=0)
    finally:
        framework_config.disable_op_determinism()


def test_threads_are_set_each_kind_its_own() -> None:
    script = (
        "import tensorflow as tf\n"
        "from vae_runner.runtime.schema import HardwareConfig\n"
        "from vae_runner.runtime.hardware import setup\n"
        "setup(HardwareConfig(device='cpu', intra_op_threads=3, inter_op_threads=2, custom_ops=False), seed=0)\n"
        "of = tf.config.threading\n"
        "print(of.get_intra_op_parallelism_threads(), of.get_inter_op_parallelism_threads())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == "3 2\n", result.stderr


def test_memory_is_what_the_container_leaves_of_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CONTAINER_LIMIT", tmp_path / "memory.max")
    machine = hardware.memory()
    for limit, expected in [("1000", 1000), ("max", machine), (str(2 * machine), machine)]:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert hardware.memory() == expected
