"""The average of the weights: what it is, what is computed with it, and that training does not depend on it."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.small_experiments import built
from tests.training.test_players import BATCH, SEED, configured, without_clock
from tests.training.test_players import experiment as of_players
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment
from vae_runner.losses.base import AUTOENCODER, DECODER
from vae_runner.models.layers import batch_normalizations
from vae_runner.schema import register_schemas
from vae_runner.training.averages import Averages
from vae_runner.training.checkpoints import Checkpoint

register_schemas()


def averages_of(experiment: Experiment) -> Averages:
    averages = experiment.trainer._inner.averages
    assert averages is not None
    return averages


def weights(experiment: Experiment) -> list[NDArray[np.float32]]:
    return [np.array(variable) for variable in experiment.autoencoder.trainable_variables]


def test_the_average_of_three_steps_is_the_one_by_hand() -> None:
    experiment = built("optimizer.ema=0.15")
    inner, batches = experiment.trainer._inner, experiment.trainer._train
    shares, steps = batches.shares(), []
    for step in range(3):
        inner.train(batches, shares, step, 1)
        steps.append(weights(experiment))
        if step == 0:
            for average, first in zip(averages_of(experiment).autoencoder.trainable_variables, steps[0], strict=True):
                np.testing.assert_array_equal(average, first)
    for average, one, two, three in zip(averages_of(experiment).autoencoder.trainable_variables, *steps, strict=True):
        expected = 0.15 * (0.1 * one + 0.9 * two) + 0.85 * three  # 0.1 = min(0.15, 1 / 10), 0.15 = min(0.15, 2 / 11)
        np.testing.assert_allclose(average, expected, rtol=1e-6, atol=1e-8)
        assert not np.array_equal(average, three)


def test_an_average_looks_back_no_further_than_its_decay() -> None:
    experiment = built("optimizer.ema=0.9")
    averages = averages_of(experiment)
    weight, average = experiment.autoencoder.trainable_variables[0], averages.autoencoder.trainable_variables[0]
    averages._updates[AUTOENCODER].assign(1000)
    average.assign(np.ones(average.shape))
    weight.assign(np.full(weight.shape, 2.0))
    averages.update({AUTOENCODER: False})
    np.testing.assert_allclose(average, np.full(average.shape, 1.1), rtol=1e-6)


def test_before_any_step_that_is_not_skipped_the_average_is_evaluated_with_the_first_weights() -> None:
    experiment = built("optimizer.ema=0.9")
    averages = averages_of(experiment)
    averages.copy_state()
    for average, weight in zip(averages.autoencoder.trainable_variables, weights(experiment), strict=True):
        np.testing.assert_array_equal(average, weight)


def with_players(ema: float | None) -> Experiment:
    config = configured("Adam")
    config.model.normalization = "batch"
    config.optimizer["ema"] = ema
    return of_players(config)


class Trained(NamedTuple):
    experiment: Experiment  # of two players, both with batch normalisation, after two epochs
    metrics: dict[str, float]  # of the second
    within: Checkpoint  # after its first step


@pytest.fixture(scope="module")
def trained() -> Trained:
    experiment, captured = with_players(0.9), []
    for _ in range(2):
        metrics = experiment.trainer.run_epoch(lambda _: captured.append(experiment.state.capture()[1])).metrics
        experiment.trainer.next_epoch()
    within = next(checkpoint for checkpoint in captured if checkpoint.position.epoch == 2)
    return Trained(experiment, without_clock(metrics), within)


def test_what_is_evaluated_drawn_and_saved_is_the_average_with_its_own_moving_averages(trained: Trained) -> None:
    experiment = trained.experiment
    averages, batches = averages_of(experiment), experiment.trainer._train
    averaged = averages.autoencoder
    assert experiment.result is averaged
    assert experiment.trained().autoencoder is averages.view

    assert batches.steps == averages.batches == 4
    images = experiment.dataset.train.images[np.random.default_rng([SEED, 1]).permutation(batches.count)]
    before = keras.Model(averaged.encoder.input, batch_normalizations(averaged.encoder)[0].input)
    raw, own = (batch_normalizations(of.encoder)[0] for of in (experiment.autoencoder, averaged))
    expected, kept = np.array(raw.moving_mean), 0.01 ** (1 / 4)  # a hundredth of the trained one's is left after four
    for part in np.split(images, [BATCH, 2 * BATCH, 3 * BATCH]):
        expected = kept * expected + (1 - kept) * np.mean(before(part / np.float32(255)), axis=0)
    np.testing.assert_allclose(own.moving_mean, expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(own.moving_mean, raw.moving_mean, rtol=1e-2)


def test_training_is_the_same_to_the_last_bit_without_an_average_for_opponents_too(trained: Trained) -> None:
    plain, averages = with_players(None), averages_of(trained.experiment)
    for _ in range(2):
        metrics = plain.trainer.run_epoch(id).metrics
        plain.trainer.next_epoch()
    for name in ("train/loss", "train/wrong"):
        assert metrics[name] == trained.metrics[name]
    values = trained.experiment.state.variables.values()
    for name, value in plain.state.variables.values().items():
        np.testing.assert_array_equal(values.pop(name), value)
    assert {name.partition("/")[0] for name in values} == {"averages"}

    # Evaluated with the averaged weights in its networks, it is the other run.
    own = [variable for part in plain.autoencoder.parts.values() for variable in part.variables]
    for variable, value in zip(own, averages.variables[1:], strict=True):
        variable.assign(np.array(value))
    found = plain.trainer._evaluate("test", plain.trainer._evaluated["test"])
    assert found == pytest.approx({name: trained.metrics[f"test/{name}"] for name in found}, rel=1e-6)
    assert found["loss"] != pytest.approx(metrics["test/loss"], rel=1e-3)


def test_a_run_with_an_average_goes_on_from_within_an_epoch_to_the_last_bit(trained: Trained) -> None:
    resumed, checkpoint = with_players(0.9), trained.within
    assert (checkpoint.position.epoch, checkpoint.position.steps) == (2, 1)
    resumed.state.restore(Checkpoint.from_bytes(checkpoint.to_bytes()))
    assert without_clock(resumed.trainer.run_epoch(id).metrics) == trained.metrics
    values = resumed.state.variables.values()
    for name, value in trained.experiment.state.variables.values().items():
        np.testing.assert_array_equal(values[name], value)


def test_the_average_of_an_opponent_is_refused() -> None:
    config = configured("Adam")
    config.loss["players"]["opponent"]["ema"] = 0.9
    with pytest.raises(UserError, match=r"loss\.players\.opponent\.ema: only the autoencoder's weights are averaged"):
        of_players(config)


def test_the_average_of_a_players_weights_follows_that_players_steps_only() -> None:
    # As where the encoder's gradient is too large and the decoder's is not.
    experiment = built("optimizer.ema=0.9", "loss=iwae", "likelihood=gaussian", "loss.partial=true", "loss.groups=2")
    averages, autoencoder = averages_of(experiment), experiment.autoencoder
    for skips in (True, False):
        for variable in autoencoder.trainable_variables:
            variable.assign(np.array(variable) + 1)
        averages.update({AUTOENCODER: skips, DECODER: False})
    averages.copy_state()
    one, other = averages.autoencoder, autoencoder
    for average, weight in zip(one.encoder.trainable_variables, other.encoder.trainable_variables, strict=True):
        np.testing.assert_array_equal(average, weight)  # its first update
    for average, weight in zip(one.decoder.trainable_variables, other.decoder.trainable_variables, strict=True):
        np.testing.assert_allclose(average, np.array(weight) - 0.1, rtol=1e-5, atol=1e-6)  # 0.1 = 1 / (1 + 9)


def test_an_averaged_codebook_is_evaluated_as_it_is_and_not_with_vectors_that_begin_again() -> None:
    keys = ("posterior=vq", "posterior.codes=64", "posterior.update=loss", "posterior.restart_below=1")
    experiment = built("optimizer.ema=0.9", "prior=categorical", "loss=vq", *keys)
    batches, averages = experiment.trainer._train, averages_of(experiment)
    experiment.trainer._inner.train(batches, batches.shares(), 0, 2)
    before = [np.array(average) for average in averages.weights]
    experiment.trainer._estimate_state()
    for average, value in zip(averages.weights, before, strict=True):
        np.testing.assert_array_equal(average, value)
