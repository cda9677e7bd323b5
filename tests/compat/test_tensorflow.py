"""TensorFlow is made as `compat.tensorflow` takes it to be."""

import gc
import inspect
import subprocess
import sys
import weakref

import pytest
import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

from vae_runner.compat import tensorflow as compat


def _trace() -> "weakref.ref[tf.Graph]":
    @tf.custom_gradient
    def doubled(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        return 2 * x, lambda dy: 2 * dy

    @tf.function
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = doubled(x)
        return tape.gradient(y, x)

    assert gradient(tf.constant(3.0)) == 2
    return weakref.ref(gradient.get_concrete_function(tf.constant(3.0)).graph)


def test_the_graph_of_a_custom_gradient_goes_with_its_function() -> None:
    with compat.custom_gradients_scoped():
        graph = _trace()
    gc.collect()
    assert graph() is None


def test_gradients_registered_before_stay() -> None:
    graph = _trace()
    with compat.custom_gradients_scoped():
        pass
    gc.collect()
    assert graph() is not None, "TensorFlow lets go of it by itself: custom_gradients is not needed any more"


def test_the_strategy_looks_after_machines_by_constants_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(CollectiveAllReduceExtended)
    for name, default in (("_check_health_interval", 30), ("_check_health_initial_timeout", 0)):
        assert getattr(CollectiveAllReduceExtended, name) == default
        assert f"self.{name}" in source
        monkeypatch.setattr(CollectiveAllReduceExtended, name, default)  # to be put back
    compat.check_machines_every(2, 50)
    assert CollectiveAllReduceExtended._check_health_interval == 2
    assert CollectiveAllReduceExtended._check_health_initial_timeout == 50


def test_whether_operations_are_deterministic_can_be_asked() -> None:
    assert not hasattr(tf.config.experimental, "is_op_determinism_enabled"), "there is a public way to ask"
    program = """
import tensorflow as tf
from vae_runner.compat.tensorflow import is_deterministic
before = is_deterministic()
tf.config.experimental.enable_op_determinism()
assert (before, is_deterministic()) == (False, True)
"""
    subprocess.run([sys.executable, "-c", program], check=True)  # it cannot be switched off again


def test_slurms_lists_are_read_in_their_order() -> None:
    assert compat.slurm_machines("node-[9-10,2],gpu", "2(x3),1") == [
        ("node-9", 2), ("node-10", 2), ("node-2", 2), ("gpu", 1),
    ]  # fmt: skip
    assert compat.slurm_machines("a,b", None) == [("a", 1), ("b", 1)]
    with pytest.raises(ValueError, match="shorter"):
        compat.slurm_machines("a,b", "1")
