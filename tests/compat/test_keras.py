"""Keras is made as `compat.keras` takes it to be."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_runner.compat import keras as compat


def test_variables_have_shapes_first_and_values_at_the_end() -> None:
    with compat.unallocated():
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
        assert layer.kernel.shape == (2, 3)
        assert layer.kernel._value is None, "they are allocated"
    assert np.asarray(layer.kernel).shape == (2, 3)


def test_variables_of_what_failed_never_get_values() -> None:
    layer = keras.layers.Dense(3)

    def build_and_fail() -> None:
        with compat.unallocated():
            layer.build((None, 2))
            raise MemoryError

    with pytest.raises(MemoryError):
        build_and_fail()
    with compat.unallocated():
        pass
    assert layer.kernel._value is None, "the registry of variables that wait for values is another"


def test_an_optimizer_takes_sums_as_they_are() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    for wrapped in (False, True):
        for ours in (False, True):
            with strategy.scope():
                variable = keras.Variable(1.0)
                inner = keras.optimizers.SGD(1.0)
                optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0) if wrapped else inner
                optimizer.build([variable])
            asked: list[bool] = []
            original = inner._all_reduce_sum_gradients
            inner._all_reduce_sum_gradients = lambda pairs, asked=asked, original=original: (
                asked.append(True), original(pairs),
            )[1]  # fmt: skip
            if ours:
                compat.sums_no_gradients(optimizer)
            strategy.run(tf.function(lambda o=optimizer, v=variable: o.apply([tf.constant(0.25)], [v])))
            assert bool(asked) is not ours, "Keras sums gradients in another way, or not at all"
            assert float(variable.value.numpy()) == 0.75


@pytest.mark.parametrize("ours", [True, False])
def test_keras_is_imported_without_its_settings_file(tmp_path: Path, ours: bool) -> None:
    (tmp_path / "keras.json").write_text('{"floatx": "float16"}')
    program = f"""
import os
from contextlib import nullcontext
from vae_runner.compat.keras import without_settings_file
with {"without_settings_file" if ours else "nullcontext"}():
    import keras
assert os.environ["KERAS_HOME"] == {str(tmp_path)!r}
print(keras.config.floatx())
"""
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert output.stdout.strip() == ("float32" if ours else "float16")
