import numpy as np
import pytest
import tensorflow as tf

from vae_runner.training.schedules import LearningRate, constant, cosine, exponential


def at(schedule: object, epoch: float, epochs: float = 10, **keys: float) -> float:
    return float(schedule(tf.constant(epoch, tf.float32), epochs, **keys))  # type: ignore[operator]


def test_constant_stays() -> None:
    assert [at(constant, epoch) for epoch in (0, 3, 10)] == [1, 1, 1]


def test_cosine_falls_along_half_a_cosine_to_its_final_factor() -> None:
    values = [at(cosine, epoch, final_factor=0.2) for epoch in (0, 2.5, 5, 10)]
    np.testing.assert_allclose(values, [1, 0.2 + 0.8 * (1 + np.cos(np.pi / 4)) / 2, 0.6, 0.2], rtol=1e-6)


def test_cosine_reaches_its_final_factor_also_after_a_warm_up() -> None:
    values = [at(cosine, epoch, final_factor=0.2, warmup_epochs=2) for epoch in (2, 6, 10)]
    np.testing.assert_allclose(values, [1, 0.6, 0.2], rtol=1e-6)


def test_exponential_is_multiplied_by_its_decay_every_epoch() -> None:
    np.testing.assert_allclose([at(exponential, e, decay=0.5) for e in (0, 1, 3)], [1, 0.5, 0.125], rtol=1e-6)


@pytest.mark.parametrize("schedule", [constant, cosine, exponential])
def test_warm_up_rises_linearly_to_the_schedules_start(schedule: object) -> None:
    values = [at(schedule, epoch, warmup_epochs=2) for epoch in (0, 0.5, 1, 2)]
    np.testing.assert_allclose(values, [0, 0.25, 0.5, 1], rtol=1e-6)


def test_the_learning_rate_of_a_step_is_that_of_its_middle() -> None:
    rate = LearningRate(0.1, lambda epoch, epochs: epoch / epochs, epochs=10, steps_per_epoch=4)
    np.testing.assert_allclose([rate(0), rate(7)], [0.1 * 0.125 / 10, 0.1 * 1.875 / 10], rtol=1e-6)
    np.testing.assert_allclose(rate.after(8), rate(7))
