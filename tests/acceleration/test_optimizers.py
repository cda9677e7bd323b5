"""The fused optimizers against Keras's own."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_runner.acceleration import optimizers


def train(optimizer: keras.optimizers.Optimizer, steps: int) -> list[np.ndarray]:
    """Variables and the optimizer's state after steps along random gradients."""
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((3, 4), (5,), ())]
    optimizer.build(variables)
    step = tf.function(lambda *gradients: optimizer.apply(gradients, variables))
    for _ in range(steps):
        step(*(tf.constant(rng.normal(0, 3, variable.shape), tf.float32) for variable in variables))
    return [np.array(v) for v in [*variables, *optimizer.variables]]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), "epsilon": 0.1},
        {"beta_1": 0.0, "beta_2": 0.5, "weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"global_clipnorm": 1.0},
        {"amsgrad": True},
    ],
)
def test_a_fused_optimizer_equals_kerass_over_several_steps(name: str, arguments: dict[str, Any]) -> None:
    arguments = {"learning_rate": 0.01, **arguments}
    ours = train(getattr(optimizers, name)(**arguments), 5)
    kerass = train(getattr(keras.optimizers, name)(**arguments), 5)
    for a, b in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Adamax", {}),
        ("Adamax", {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), "epsilon": 0.1}),
        ("Adamax", {"beta_1": 0.5, "beta_2": 0.3, "weight_decay": 0.1, "clipnorm": 0.5}),
        ("RMSprop", {}),
        ("RMSprop", {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), "epsilon": 0.1}),
        ("RMSprop", {"rho": 0.5, "momentum": 0.7, "weight_decay": 0.1, "global_clipnorm": 1.0}),
        ("RMSprop", {"centered": True, "momentum": 0.7}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "default",
)
def test_adamax_and_rmsprop_equal_kerass_over_several_steps(name: str, arguments: dict[str, Any]) -> None:
    arguments = {"learning_rate": 0.01, **arguments}
    ours = train(getattr(optimizers, name)(**arguments), 5)
    kerass = train(getattr(keras.optimizers, name)(**arguments), 5)
    assert len(ours) - len(kerass) in (0, 3)  # a momentum of each of the three variables, which Keras makes if needed
    for a, b in zip(ours, kerass, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
