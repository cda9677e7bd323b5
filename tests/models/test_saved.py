"""What a file may have Keras make."""

from typing import Any

import keras
import pytest

from vae_runner.models.saved import _is_harmless, _objects


def test_all_that_keras_writes_for_a_network_of_its_own_layers_is_let_through() -> None:
    x = inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, kernel_regularizer="l2", kernel_constraint="max_norm", dtype="mixed_float16")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("gelu")(keras.layers.LayerNormalization()(x))
    x = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2, kernel_initializer="he_normal")])(x)
    model = keras.Model(inputs, keras.ops.relu(keras.layers.Concatenate()([x, x]) + 2 * x[:, :1]))
    parts = list(_objects(keras.saving.serialize_keras_object(model)))
    assert len(parts) > 10
    assert [part for part in parts if not _is_harmless(part)] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras", "layers.Lambda"), ("keras", "layers.Dense"), ("keras.layers", "Lambda"), ("keras", "Model"),
        ("keras.src.layers.core.lambda_layer", "Lambda"), ("keras.layers", "deserialize"), ("keras.utils", "get_file"),
        ("keras.layers", "function"), (None, "__lambda__"), (None, "__typespec__"), ("os", "system"), ("keras", ["x"]),
        (["keras.layers"], "Dense"), (None, "Dense"), ("keras.layers", "Dense.from_config"),
    ],
)  # fmt: skip
def test_nothing_else_is(module: Any, name: Any) -> None:
    assert not _is_harmless({"module": module, "class_name": name, "registered_name": None, "config": {}})
