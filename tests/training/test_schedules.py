import csv
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vae_runner.training.schedules import LearningRate, constant, cosine, exponential, steps


def at(schedule: object, epoch: float, length: float = 10, **keys: object) -> float:
    return float(schedule(tf.constant(epoch, tf.float32), length, **keys))  # type: ignore[operator]


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


def test_after_a_warm_up_a_cosine_takes_the_rest_of_the_run_down_to_its_final_factor() -> None:
    values = [at(cosine, epoch, warmup_epochs=2, final_factor=0.2) for epoch in (2, 4, 6, 10)]
    np.testing.assert_allclose(values, [1, 0.2 + 0.8 * (1 + np.cos(np.pi / 4)) / 2, 0.6, 0.2], rtol=1e-6)


def test_after_a_warm_up_the_decay_is_of_the_epochs_since() -> None:
    values = [at(exponential, epoch, warmup_epochs=2, decay=0.5) for epoch in (1, 2, 3, 5)]
    np.testing.assert_allclose(values, [0.5, 1, 0.5, 0.125], rtol=1e-6)


def test_steps_multiply_by_their_factor_after_each_of_their_epochs() -> None:
    values = [at(steps, epoch, epochs=[2, 5, 5.5], factor=0.5) for epoch in (0, 1.99, 2, 4.99, 5, 5.49, 5.5, 90)]
    np.testing.assert_allclose(values, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125], rtol=1e-6)
    at_half = [at(steps, epoch, epochs=[0.5], factor=0.1, warmup_epochs=2) for epoch in (0.4, 1, 2)]
    np.testing.assert_allclose(at_half, [0.2, 0.05, 0.1], rtol=1e-6)  # they count from the beginning of the run


@pytest.mark.parametrize("steps_per_epoch", [1, 600, 20_000])
def test_the_first_step_after_an_epoch_is_the_first_that_a_step_of_the_schedule_changes(steps_per_epoch: int) -> None:
    schedule = partial(steps, epochs=[200, 350], factor=0.1)
    rate = LearningRate(1.0, schedule, epochs=500, steps_per_epoch=steps_per_epoch)
    last = 200 * steps_per_epoch
    np.testing.assert_allclose([rate(last - 1), rate(last)], [1, 0.1], rtol=1e-6)
    np.testing.assert_allclose([rate.after(last), rate.after(last + 1)], [1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("schedule", [constant, cosine, exponential])
def test_warm_up_rises_linearly_to_the_schedules_start(schedule: object) -> None:
    values = [at(schedule, epoch, warmup_epochs=2) for epoch in (0, 0.5, 1, 2)]
    np.testing.assert_allclose(values, [0, 0.25, 0.5, 1], rtol=1e-6)


def test_the_learning_rate_of_a_step_is_that_of_its_middle() -> None:
    rate = LearningRate(0.1, lambda epoch, epochs: epoch / epochs, epochs=10, steps_per_epoch=4)
    np.testing.assert_allclose([rate(0), rate(7)], [0.1 * 0.125 / 10, 0.1 * 1.875 / 10], rtol=1e-6)
    np.testing.assert_allclose(rate.after(8), rate(7))


def test_the_last_step_of_a_run_has_nearly_the_final_factor() -> None:
    def schedule(epoch: tf.Tensor, epochs: float) -> tf.Tensor:
        return cosine(epoch, epochs, warmup_epochs=1.5, final_factor=0.1)

    rate = LearningRate(0.5, schedule, epochs=10, steps_per_epoch=100)
    np.testing.assert_allclose(rate.after(1000), 0.05, rtol=1e-4)
    assert rate.after(900) > 1.3 * rate.after(1000)


def test_a_runs_table_has_the_learning_rate_of_the_last_step_of_each_epoch(
    tmp_path: Path, in_process: Callable[..., None]
) -> None:
    in_process(
        "vae-run", "dataset=digits", "model=mlp", "dataset.limit=50", "batch_size=16", "epochs=3", "figures=none",
        "hydra.run.dir=run", "schedule=cosine", "schedule.warmup_epochs=0.75", "schedule.final_factor=0.25",
        "optimizer.learning_rate=0.001",
        cwd=tmp_path,
    )  # fmt: skip
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == [4, 8, 12]  # 50 images in batches of 16

    def expected(step: int) -> float:
        epoch = (step - 0.5) / 4  # in the middle of the step
        return 0.001 * (0.25 + 0.75 * (1 + math.cos(math.pi * (epoch - 0.75) / 2.25)) / 2)

    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows], list(map(expected, steps)), rtol=1e-5)
