"""A loss with an opponent: each player minimises its own scalar with respect to its own variables."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_module
from omegaconf import open_dict

from vae_runner.config.checks import check
from vae_runner.datasets.digits import load
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment, build_experiment, build_loss
from vae_runner.losses.base import AUTOENCODER, Batch, Loss
from vae_runner.losses.elbo import Elbo
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.runtime.hardware import setup
from vae_runner.schema import Config, register_schemas
from vae_runner.training.noise import GivenNoise
from vae_runner.training.stopwatch import Stopwatch

BATCH, SEED = 16, 5
RATES = {AUTOENCODER: 1e-5, "opponent": 0.25}


class Opposed(Loss):
    """The ELBO, less what an opponent gets wrong of which images are real."""

    terms = ("reconstruction", "kl", "wrong")

    def players(self, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
        """Make the opponent."""
        images = keras.Input(autoencoder.image_shape)
        x = keras.layers.Dense(8, "tanh", use_bias=False)(keras.layers.Flatten()(images))
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
        self.network = keras.Model(images, keras.layers.Dense(1)(x))
        return {**super().players(autoencoder), "opponent": self.network.trainable_variables}

    def __call__(self, autoencoder: Autoencoder, batch: Batch, training: bool) -> tuple[Any, dict[str, tf.Tensor]]:
        """Return what each of them minimises."""
        loss, terms = Elbo()(autoencoder, batch, training)
        made = autoencoder.decode(batch.noise.normal([2]), batch.labels, training).mean
        real, false = (self.network(images, training=training) for images in (batch.images, made))
        wrong = tf.reduce_mean(tf.nn.softplus(-real) + tf.nn.softplus(false))
        return {AUTOENCODER: loss - 100 * wrong, "opponent": wrong}, {**terms, "wrong": wrong}


def configured(target: str = "SGD", **loss: Any) -> Config:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose(
            "config",
            [
                *("dataset=digits", "dataset.limit=50", f"batch_size={BATCH}", "epochs=2", f"seed={SEED}"),
                *("model=mlp", "model.width=8", "hardware=cpu", "loss=vae"),
            ],
        )
    optimizers = {
        name: {"_target_": f"keras.optimizers.{target}", "learning_rate": rate} for name, rate in RATES.items()
    }
    with open_dict(config):
        config.loss = {"_target_": f"{__name__}.Opposed", "players": {"opponent": optimizers["opponent"]}, **loss}
        config.optimizer = optimizers[AUTOENCODER]
    check(config)
    return Config.of(config)


def experiment(config: Config) -> Experiment:
    return build_experiment(config, setup(config.hardware, config.seed), Stopwatch())


def test_each_player_moves_its_own_variables_along_its_own_gradient_with_its_own_optimizer() -> None:
    made = experiment(configured())
    inner = made.trainer._inner
    loss, players = inner._loss, inner._players
    assert list(players) == [AUTOENCODER, "opponent"]
    assert {name: float(player.optimizer.learning_rate) for name, player in players.items()} == pytest.approx(RATES)
    dataset = load(test_fraction=0.2, limit=50)
    chosen = np.random.default_rng([SEED, 0]).permutation(len(dataset.train))[:BATCH]
    seed = tf.constant([SEED, 0], tf.int64)
    seeds = [seed, tf.random.experimental.stateless_fold_in(seed, 1)]
    noise = GivenNoise([tf.random.stateless_normal([BATCH, 2], seed, alg="philox") for seed in seeds])
    images = tf.constant(dataset.train.images[chosen] / np.float32(255))
    with tf.GradientTape(persistent=True) as tape:
        losses, _ = loss(made.autoencoder, Batch(images, None, noise, tf.constant(0.0)), training=True)
    expected = []
    for name, player in players.items():
        gradients = tape.gradient(losses[name], [variable.value for variable in player.variables])
        assert all(gradient is not None for gradient in gradients)
        expected += [v - RATES[name] * g for v, g in zip(player.variables, gradients, strict=True)]

    batches = made.trainer._train
    inner.train(batches, batches.shares(0), 0, 1)
    found = [variable for player in players.values() for variable in player.variables]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def without_clock(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in ("seconds", "train/images_per_second")}


def test_a_run_of_two_players_goes_on_from_a_checkpoint_to_the_last_bit() -> None:
    config = configured("Adam")
    reference = experiment(config)
    reference.trainer.run_epoch(id)
    reference.trainer.next_epoch()
    _, checkpoint = reference.state.capture()
    expected = reference.trainer.run_epoch(id)

    names = {name.rpartition("/")[0] for name in checkpoint.variables}
    assert {"encoder", "decoder", "player/opponent", "loss", "optimizer/autoencoder", "optimizer/opponent"} == names
    moving = [value for name, value in checkpoint.variables.items() if name.startswith("loss/")]
    assert [value.shape for value in moving] == [(8,), (8,)]  # what no player trains: a mean and a variance
    assert not np.allclose(moving[1], 1)
    resumed = experiment(config)
    resumed.state.restore(checkpoint)
    assert without_clock(resumed.trainer.run_epoch(id).metrics) == without_clock(expected.metrics)
    for name, value in reference.state.variables.values().items():
        np.testing.assert_array_equal(resumed.state.variables.values()[name], value)


def test_a_player_without_an_optimizer_of_its_own_has_one_like_the_runs() -> None:
    config = configured("Adam")
    del config.loss["players"]
    players = experiment(config).trainer._inner._players
    ours, theirs = (players[name].optimizer for name in (AUTOENCODER, "opponent"))
    assert ours is not theirs
    assert type(ours) is type(theirs)
    assert float(theirs.learning_rate) == pytest.approx(RATES[AUTOENCODER])


def test_a_player_whose_optimizer_has_no_learning_rate_is_named() -> None:
    config = configured()
    del config.loss["players"]["opponent"]["learning_rate"]
    with pytest.raises(UserError, match=r"loss\.players\.opponent has no learning_rate"):
        experiment(config)


def test_what_is_no_loss_is_refused() -> None:
    with pytest.raises(UserError, match=r"MeanSquaredError is no loss: derive it from vae_runner\.losses\.base\.Loss"):
        build_loss({"_target_": "vae_runner.likelihoods.mse.MeanSquaredError"})


@pytest.mark.parametrize(
    ("players", "message"),
    [
        ({"oponent": {}}, r"loss\.players\.oponent: the loss has no such player\. Did you mean 'opponent'\?"),
        ({"opponent": 0.1}, r"loss\.players: give the names of players"),
        (["opponent"], r"loss\.players: give the names of players"),
    ],
)
def test_players_that_are_not_of_the_loss_are_refused(players: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(configured(players=players))
