"""What a run promises, for every posterior, prior, likelihood and loss, and for spatial latents.

`test_axis_values.py` runs this file in processes of their own, because TensorFlow has two devices here from the start.
A run has one component of each axis, and the runs together have all that are registered, a new one too.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_module

from tests.combinations import AXES, every_fitting
from tests.small_experiments import FEW, freeze, two_steps, untraced
from vae_runner.cli.compare import compare
from vae_runner.cli.sample import sample
from vae_runner.config.checks import check
from vae_runner.config.composition import HydraJob
from vae_runner.experiment import Experiment, build_experiment, load
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval
from vae_runner.models.variables import Variables
from vae_runner.posteriors.base import CodePosterior
from vae_runner.run import run
from vae_runner.runtime.hardware import setup
from vae_runner.schema import Config
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun
from vae_runner.training.checkpoints import Checkpoint
from vae_runner.training.noise import NumpyNoise
from vae_runner.training.stopwatch import Stopwatch

DEVICES = 2
PART, PARTS = (int(number) for number in os.environ.get("VAE_RUNNER_TEST_PART", "0/1").split("/"))
VECTOR = ("model=mlp", "model.width=8")
SPATIAL_COMPONENTS = ("gaussian", "mixture", "gaussian", "beta_tc")
SPATIAL = ("model=conv", "model.latent=spatial", "model.depth=1", "model.filters=4", "model.normalization=none")
OVERRIDES = (
    *("dataset=digits", "dataset.limit=32", "batch_size=16", "epochs=2", "latent=2"),
    *("hardware.custom_ops=false", "optimizer.learning_rate=0.01", "figures.every=2"),
    *("figures.periodic.samples.rows=2", "figures.periodic.samples.columns=2", "figures.final.manifold.side=3"),
    *("figures.final.samples_uniform.rows=2", "figures.final.samples_uniform.columns=2"),
    *("figures.final.samples_normal.rows=2", "figures.final.samples_normal.columns=2"),
    *("figures.final.traversals.rows=2", "figures.final.traversals.columns=3"),
    *("figures.final.interpolations.rows=2", "figures.final.interpolations.columns=3"),
)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * DEVICES
)


def covering(first: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield few combinations that fit, and that have every component among them which the first one has not."""
    every = every_fitting()
    left = {value for chosen in every for value in enumerate(chosen)}.difference(enumerate(first))
    while left:
        best = max(every, key=lambda chosen: len(left.intersection(enumerate(chosen))))
        left.difference_update(enumerate(best))
        yield best


@pytest.fixture(scope="module", autouse=True)
def devices() -> Iterator[None]:
    """Leave the devices as they are: one process cannot have one, and then two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_runner.runtime.hardware._set_devices", lambda *arguments: None)
        yield


@dataclass(frozen=True)
class Finished:
    """A run that has finished."""

    config: Config
    path: Path

    @property
    def after_first_epoch(self) -> Checkpoint:
        """The checkpoint after its first epoch."""
        return Checkpoint.from_bytes(min((self.path / "checkpoints").iterdir()).read_bytes())

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """Its networks, loaded."""
        return load(StoredRun.open_finished(self.path))

    def again(self, **hardware: object) -> Experiment:
        """The experiment, built anew."""
        config = replace(self.config, hardware=replace(self.config.hardware, **hardware))
        return build_experiment(config, setup(config.hardware, config.seed), Stopwatch())


RUNS = [(SPATIAL, SPATIAL_COMPONENTS), *((VECTOR, chosen) for chosen in covering(SPATIAL_COMPONENTS))]


@pytest.fixture(scope="module", params=RUNS[PART::PARTS], ids=lambda run: "-".join([run[0][0], *run[1]]))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of two epochs, with the default figures, of untraced steps: those over replicas and with XLA are traced."""
    network, components = request.param
    chosen = [f"{group}={name}" for group, name in zip(AXES, components, strict=True)]
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        composed = compose("config", [*OVERRIDES, *network, *chosen, *(FEW[name] for name in chosen if name in FEW)])
    check(composed)
    config = Config.of(composed)
    freeze()
    path = tmp_path_factory.mktemp("axis") / "run"
    with untraced():
        run(config, HydraJob(path, True, {}, {}, []))
    return Finished(config, path)


def test_a_resumed_run_ends_with_the_same_bits(finished: Finished) -> None:
    experiment = finished.again()
    experiment.state.restore(finished.after_first_epoch)
    with untraced():
        experiment.trainer._train_epoch(lambda progress: None)
    expected = StoredRun.open_finished(finished.path).weights
    values = Variables(experiment.autoencoder.parts).values()
    assert values
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def assert_same_epoch(experiment: Experiment, metrics: Mapping[str, float], finished: Finished) -> None:
    """The first epoch, computed in another way, has the same metrics, and weights, within rounding."""
    checkpoint = finished.after_first_epoch
    for name, value in metrics.items():
        if name.startswith(("train/", "test/")) and "per_second" not in name:
            assert value == pytest.approx(checkpoint.rows[0][name], rel=5e-4, abs=5e-4), name
    for name, value in Variables(experiment.autoencoder.parts).values().items():
        np.testing.assert_allclose(value, checkpoint.variables[name], atol=5e-3, err_msg=name)


def test_two_replicas_compute_what_one_does(finished: Finished) -> None:
    experiment = finished.again(distribution="mirrored", logical_cpus=DEVICES)
    assert experiment.machine.replicas == DEVICES
    # Tracing takes seconds: the steps are traced, as in a run, and the evaluation is not.
    inner = experiment.trainer._inner
    inner._compiled_evaluate = partial(inner._loop, inner._evaluation_step)
    metrics = experiment.trainer.run_epoch(lambda progress: None).metrics
    assert_same_epoch(experiment, metrics, finished)


def test_xla_computes_the_same(finished: Finished) -> None:
    experiment = finished.again(xla=True)
    # Compiling takes seconds: of the steps, not of the evaluation.
    metrics = experiment.trainer._train_epoch(lambda progress: None)
    assert_same_epoch(experiment, metrics, finished)


def test_in_bfloat16_losses_are_finite_and_densities_float32(
    finished: Finished, request: pytest.FixtureRequest
) -> None:
    experiment = finished.again(precision="mixed_bfloat16")
    is_first = request.node.callspec.params["finished"] == RUNS[0]  # Tracing takes seconds: one run will do.
    try:
        metrics = two_steps(experiment, compiled=is_first)
        assert all(np.isfinite(value) for value in metrics.values()), metrics
        autoencoder, split = experiment.autoencoder, experiment.dataset.test.first(4)
        images, labels = to_unit_interval(tf.constant(split.images)), tf.constant(split.labels)
        posterior, prior = autoencoder.encode(images, labels), autoencoder.latent_prior(labels)
        z = posterior.sample(NumpyNoise(np.random.default_rng(0), 4))
        decoded = autoencoder.decode(z, labels)
        densities = [prior.log_prob(z), decoded.error(images)]
        if autoencoder.posterior.has_density:
            densities.append(posterior.log_prob(z))
        for values in (*densities, z, posterior.mean, decoded.mean):
            assert values.dtype == tf.float32
            assert np.isfinite(values).all()
        assert all(variable.dtype == "float32" for variable in autoencoder.trainable_variables)
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_saved_decoder_gives_the_images_of_the_run_and_vae_sample_draws_from_its_prior(
    finished: Finished, tmp_path: Path
) -> None:
    autoencoder = finished.autoencoder
    saved = keras.saving.load_model(RunDirectory(finished.path).network_file("decoder"), safe_mode=True)
    labels = np.arange(5) if autoencoder.classes else None  # as vae-sample takes them, in turn
    z = autoencoder.latent_prior(labels).sample(NumpyNoise(np.random.default_rng(3), 5, np.float32))
    images = saved(np.reshape(z, [-1, *autoencoder.latent_shape])).numpy()
    assert images.shape == (5, 8, 8, 1)
    assert 0 <= images.min() <= images.max() <= 1
    np.testing.assert_allclose(images, autoencoder.decode(z).mean, rtol=1e-5, atol=1e-6)
    sample(finished.path, 5, tmp_path / "samples.npy", 3, [])
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npy"), np.round(images * 255).astype(np.uint8))


def test_its_figures_are_drawn_and_vae_compare_draws_it(finished: Finished, tmp_path: Path) -> None:
    folder = finished.path / "figures"
    drawn = {file.relative_to(folder).with_suffix("").parts[0] for file in folder.rglob("*.png")}
    assert {"reconstructions", "samples", "loss_curves"} <= drawn
    if isinstance(finished.autoencoder.posterior, CodePosterior):
        assert "code_usage" in drawn
        assert not drawn & {"latent_space", "interpolations", "manifold", "traversals"}
    else:
        assert {"latent_space", "interpolations"} <= drawn
        assert drawn & {"manifold", "traversals"}
    compare([finished.path], tmp_path / "compare.png", [])
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert "test/loss" in (tmp_path / "compare.csv").read_text()
