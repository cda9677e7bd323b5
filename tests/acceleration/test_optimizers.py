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


def kernel_and_others(dense: tuple[int, int]) -> list[keras.Variable]:
    rng = np.random.default_rng(1)
    return [
        keras.Variable(rng.normal(size=shape).astype(np.float32), name=name)
        for name, shape in (("kernel", dense), ("bias", (5,)), ("codebook", (6, 4)))
    ]


@pytest.mark.parametrize("arguments", [{}, {"momentum": 0.5, "epsilon": 0.1}, {"global_clipnorm": 1.0}])
@pytest.mark.parametrize("shape", [(7, 3), (3, 7)])
def test_muon_equals_kerass_on_a_dense_kernel_and_adam_on_all_else(
    shape: tuple[int, int], arguments: dict[str, Any]
) -> None:
    ours, kerass = kernel_and_others(shape), kernel_and_others(shape)
    mine = optimizers.Muon(learning_rate=0.01, **arguments)
    theirs = keras.optimizers.Muon(
        learning_rate=0.01, weight_decay=None, adam_weight_decay=None, exclude_layers=["codebook"], **arguments
    )
    rng = np.random.default_rng(0)
    for _ in range(4):
        gradients = [tf.constant(rng.normal(0, 3, variable.shape), tf.float32) for variable in ours]
        mine.apply(gradients, ours)
        theirs.apply(gradients, kerass)
    for a, b in zip(ours, kerass, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_muon_takes_a_convolutions_kernel_as_the_matrix_of_its_last_dimension() -> None:
    rng = np.random.default_rng(0)
    gradient = tf.constant(rng.normal(size=(3, 3, 2, 5)), tf.float32)
    kernel, matrix = (keras.Variable(tf.zeros(shape), name="kernel") for shape in ((3, 3, 2, 5), (18, 5)))
    optimizers.Muon(learning_rate=0.01).apply([gradient], [kernel])
    optimizers.Muon(learning_rate=0.01).apply([tf.reshape(gradient, (18, 5))], [matrix])
    np.testing.assert_allclose(np.reshape(kernel, (18, 5)), matrix, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 9), (9, 40), (8, 8), (1, 6)])
def test_an_orthogonalized_matrix_keeps_its_singular_vectors_and_has_values_near_1(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    values = np.geomspace(1, 0.01, min(shape)) * 7
    found = u.T @ optimizers.orthogonalized(tf.constant((u * values) @ vt, tf.float32)).numpy() @ vt.T
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-4)
    assert 0.68 < np.diag(found).min() <= np.diag(found).max() < 1.21


def test_a_step_of_muon_along_no_gradient_is_none() -> None:
    kernel = keras.Variable(np.ones((3, 4), np.float32), name="kernel")
    optimizers.Muon(learning_rate=0.1).apply([tf.zeros((3, 4))], [kernel])
    np.testing.assert_array_equal(kernel, np.ones((3, 4)))
