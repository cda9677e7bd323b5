"""What a configuration is made into, against the same put together by hand."""

from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from hydra import compose, initialize_config_module

from tests.networks import build, one_player
from vae_runner.acceleration.optimizers import Adam
from vae_runner.config.checks import check
from vae_runner.datasets.digits import load
from vae_runner.datasets.pipeline import Batches
from vae_runner.errors import UserError
from vae_runner.experiment import build_experiment
from vae_runner.losses.base import AUTOENCODER
from vae_runner.losses.elbo import Elbo
from vae_runner.models import mlp
from vae_runner.runtime.hardware import setup
from vae_runner.schema import Config, register_schemas
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.training.inner import InnerLoop
from vae_runner.training.outer import Position, Trainer
from vae_runner.training.schedules import LearningRate, cosine
from vae_runner.training.stopwatch import Stopwatch

BATCH = 16
SEED = 5
CLOCK = ("seconds", "train/images_per_second")


def configured(*overrides: str, model: tuple[str, ...] = ("model=mlp", "model.width=8")) -> Config:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose(
            "config",
            [
                *("dataset=digits", "dataset.limit=50", "dataset.validation_fraction=0.2", f"batch_size={BATCH}"),
                *("epochs=3", f"seed={SEED}", "latent=3", *model, "hardware.device=cpu"),
                *("schedule=cosine", "loss.kl_warmup_epochs=2", "loss.kl_weight=3", *overrides),
            ],
        )
    check(config)
    return Config.of(config)


def results(trainer: Trainer) -> list[dict[str, float]]:
    """The metrics of two epochs, without what the clock decides."""
    rows = []
    for _ in range(2):
        rows.append({name: value for name, value in trainer.run_epoch(id).metrics.items() if name not in CLOCK})
        trainer.next_epoch()
    return rows


def test_a_run_trains_and_is_measured_as_configured() -> None:
    config = configured()
    machine = setup(config.hardware, config.seed)
    experiment = build_experiment(config, machine, Stopwatch())

    dataset = load(test_fraction=0.2, validation_fraction=0.2, limit=50)
    autoencoder = build((8, 8, 1), 3, model=mlp, width=8)
    for ours, theirs in [("encoder", experiment.autoencoder.encoder), ("decoder", experiment.autoencoder.decoder)]:
        getattr(autoencoder, ours).set_weights(theirs.get_weights())
    train = Batches(dataset.train.images, BATCH, SEED)
    rate = LearningRate(0.0005, partial(cosine), 3, train.steps)
    players = one_player(autoencoder, Adam(rate))
    inner = InnerLoop(autoencoder, Elbo(kl_weight=3, kl_warmup_epochs=2), players, machine, SEED, train.steps)
    others = {name: Batches(dataset.splits[name].images, BATCH) for name in ("validation", "test")}
    expected = results(Trainer(inner, train, others, rate))

    found = results(experiment.trainer)
    assert [list(row) for row in found] == [list(row) for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    trained = experiment.trained()
    assert (trained.epoch, trained.seed, len(trained.test)) == (2, SEED, len(dataset.test))


def test_the_networks_as_they_are_written_train_to_the_same_losses() -> None:
    rows = {}
    for fuse in (True, False):
        config = configured(f"hardware.fuse={fuse}", model=("model=conv", "model.filters=16"))
        experiment = build_experiment(config, setup(config.hardware, config.seed), Stopwatch())
        assert (experiment.fused.encoder is experiment.autoencoder.encoder) != fuse
        rows[fuse] = results(experiment.trainer)
    for fused, plain in zip(rows[True], rows[False], strict=True):
        assert fused == pytest.approx(plain, rel=1e-4)


def test_a_likelihood_whose_image_cannot_be_saved_is_refused_before_training() -> None:
    config = configured()
    config.likelihood._target_ = "tests.models.test_plain_keras.WithTensorFlow"
    with pytest.raises(UserError, match="WithTensorFlow cannot be saved"):
        build_experiment(config, setup(config.hardware, config.seed), Stopwatch())


def test_a_run_goes_on_where_its_checkpoint_was_with_the_seconds_spent_before(tmp_path: Path) -> None:
    config = configured()
    machine = setup(config.hardware, config.seed)
    directory = RunDirectory(tmp_path)
    before, after = (build_experiment(config, machine, Stopwatch()) for _ in range(2))
    before.trainer.history[:] = [{"epoch": 1, "step": 3, "test/loss": 2.0}, {"epoch": 2, "step": 6, "test/loss": 1.0}]
    before.state.stopwatch.seconds["training"] = 1000.0
    before.trainer.position = Position(2, 1, seconds=7.0, images_per_second=8.0)
    step, checkpoint = before.state.capture()
    directory.checkpoints.save(step, checkpoint.to_bytes())

    stored = directory.checkpoints.newest()
    assert stored is not None
    after.state.restore(stored)
    assert after.trainer.history == [{"epoch": 1, "step": 3, "test/loss": 2.0}]  # epoch 2 is under way
    assert after.state.stopwatch.seconds == {"training": 1000.0}
    assert after.trainer.position == before.trainer.position
    assert after.trainer.step == step == before.trainer._train.steps + 1
    values = after.state.variables.values()
    for name, value in before.state.variables.values().items():
        np.testing.assert_array_equal(values[name], value)


def test_a_run_whose_posterior_and_prior_have_networks_goes_on_as_if_it_had_not_stopped() -> None:
    config = configured("posterior=iaf", "prior=real_nvp", "posterior.steps=2", "prior.steps=2")
    machine = setup(config.hardware, config.seed)
    whole, second = (build_experiment(config, machine, Stopwatch()) for _ in range(2))
    whole.trainer._train_epoch(id)
    whole.trainer.next_epoch()
    _, checkpoint = whole.state.capture()
    second.state.restore(checkpoint)
    for experiment in (whole, second):
        experiment.trainer._train_epoch(id)
    values, initial = second.state.variables.values(), checkpoint.variables
    for name, value in whole.state.variables.values().items():
        np.testing.assert_array_equal(values[name], value)
    own = [name for name in values if name.startswith(("posterior/", "prior/"))]
    assert len(own) == 12  # three layers of each, kernels and biases
    assert not any(np.array_equal(values[name], initial[name]) for name in own)


@pytest.mark.parametrize(("precision", "scaled"), [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_the_loss_is_scaled_where_small_gradients_would_be_nothing(precision: str, scaled: bool) -> None:
    config = configured(f"hardware.precision={precision}")
    try:
        experiment = build_experiment(config, setup(config.hardware, config.seed), Stopwatch())
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = experiment.trainer._inner._players[AUTOENCODER].optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == scaled
