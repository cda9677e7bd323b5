"""A step whose gradient is too large changes no weight and nothing of the optimizer, and is counted."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.small_experiments import BATCH, built
from tests.training.test_players import without_clock
from vae_runner.acceleration import optimizers
from vae_runner.experiment import Experiment
from vae_runner.losses.base import Batch
from vae_runner.schema import register_schemas
from vae_runner.training.checkpoints import Checkpoint
from vae_runner.training.noise import GivenNoise
from vae_runner.training.skipping import Skipping

register_schemas()

GRADIENTS = {  # of two variables, [2] and []; with a limit of 5
    "below": ([3.0, 0.0], 3.9, False),
    "beyond": ([3.0, 0.0], 4.1, True),
    "not a number": ([0.0, np.nan], 0.0, True),
    "infinite": ([0.0, 0.0], np.inf, True),
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Adam", {"global_clipnorm": 0.1}), ("AdamW", {"weight_decay": 0.5}), ("Adamax", {}), ("RMSprop", {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_skipped_step_leaves_every_weight_and_slot_to_the_last_bit_and_is_counted(
    name: str, arguments: dict[str, Any]
) -> None:
    made = []
    for _ in range(2):
        variables = [keras.Variable(np.array([1.0, -2.0], np.float32)), keras.Variable(0.5)]
        optimizer = getattr(optimizers, name)(learning_rate=0.1, **arguments)
        optimizer.build(variables)
        made.append((variables, optimizer))
    (ours, optimizer), (theirs, plain) = made
    skipping = Skipping(5.0)
    step = tf.function(lambda *gradients: skipping.apply(optimizer, gradients, ours))
    expected = 0
    for first, second, skipped in [*GRADIENTS.values(), GRADIENTS["below"]]:
        gradients = tf.constant(first), tf.constant(second)
        if not skipped:
            plain.apply(gradients, theirs)
        assert bool(step(*gradients)) == skipped
        expected += skipped
        assert int(skipping.count) == expected
        for a, b in zip([*ours, *optimizer.variables], [*theirs, *plain.variables], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_norm_is_without_the_scale_of_the_loss_which_an_overflow_still_halves() -> None:
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer = keras.optimizers.LossScaleOptimizer(optimizers.Adam(0.1), initial_scale=1024.0)
    optimizer.build([variable])
    skipping = Skipping(5.0)
    for gradient, skipped, scale in (([3.0, 3.9], False, 1024), ([3.0, 4.1], True, 1024), ([np.inf, 0.0], True, 512)):
        before = np.array(variable)
        scaled = tf.constant(gradient) * optimizer.dynamic_scale.value
        assert bool(skipping.apply(optimizer, [scaled], [variable])) == skipped
        assert np.array_equal(before, variable) == skipped
        assert float(optimizer.dynamic_scale) == scale


@pytest.fixture(scope="module")
def norm() -> float:
    """The norm of the first step's gradient."""
    experiment = built()
    images = experiment.dataset.train.images[np.random.default_rng([0, 0]).permutation(40)[:BATCH]]
    noise = GivenNoise([tf.random.stateless_normal([BATCH, 3], tf.constant([0, 0], tf.int64), alg="philox")])
    variables = [variable.value for variable in experiment.autoencoder.trainable_variables]
    with tf.GradientTape() as tape:
        batch = Batch(tf.constant(images / np.float32(255)), None, noise, tf.constant(0.0))
        loss, _ = experiment.loss(experiment.autoencoder, batch, training=True)
    assert not isinstance(loss, dict)
    return float(np.sqrt(sum(np.sum(np.square(gradient)) for gradient in tape.gradient(loss, variables))))


def state(experiment: Experiment) -> dict[str, NDArray[np.generic]]:
    """All that is checkpointed, without the count."""
    values = experiment.state.variables.values()
    return {name: value for name, value in values.items() if not name.startswith("skipped/")}


@pytest.mark.parametrize(("part", "skipped"), [(0.999, 1), (1.001, 0)])
def test_a_step_is_skipped_where_the_norm_of_all_gradients_is_beyond_the_limit(
    norm: float, part: float, skipped: int
) -> None:
    # A step that is skipped leaves the average too, and one that is not is that of a run without the key.
    limited = built(f"optimizer.skip_norm_above={part * norm}", "optimizer.ema=0.9")
    expected, plain = state(limited), built("optimizer.ema=0.9")
    for experiment in (limited,) if skipped else (limited, plain):
        batches = experiment.trainer._train
        experiment.trainer._inner.train(batches, batches.shares(), 0, 1)
    assert limited.trainer._inner.skipped_steps == skipped
    assert plain.trainer._inner.skipped_steps is None
    found = state(limited)
    for name, value in (expected if skipped else state(plain)).items():
        np.testing.assert_array_equal(found[name], value)


def test_a_run_that_skips_some_steps_goes_on_to_the_last_bit_and_counts_those_of_an_epoch(norm: float) -> None:
    reference, resumed = (built(f"optimizer.skip_norm_above={1.001 * norm}") for _ in range(2))
    captured: list[Checkpoint] = []
    for _ in range(2):
        expected = reference.trainer.run_epoch(lambda _: captured.append(reference.state.capture()[1]))
        reference.trainer.next_epoch()
    counts = [row["train/skipped_steps"] for row in reference.trainer.history]
    assert all(0 < count < 6 for count in counts)
    assert sum(counts) == reference.trainer._inner.skipped_steps < 6

    within = next(checkpoint for checkpoint in captured if checkpoint.position.epoch == 2)
    resumed.state.restore(Checkpoint.from_bytes(within.to_bytes()))
    assert without_clock(resumed.trainer.run_epoch(id).metrics) == without_clock(expected.metrics)
    values = resumed.state.variables.values()
    for name, value in reference.state.variables.values().items():
        np.testing.assert_array_equal(values[name], value)


def test_the_schedule_counts_the_steps_that_are_taken_and_the_learning_rate_reported_is_the_one_used() -> None:
    experiment = built("optimizer.skip_norm_above=1e-9", "schedule=exponential", "schedule.decay=0.1")
    result = experiment.trainer.run_epoch(id)
    assert result.metrics["train/skipped_steps"] == result.step > 1
    rate = experiment.trainer._learning_rate
    assert result.metrics["learning_rate"] == rate.after(1) > rate.after(result.step)
