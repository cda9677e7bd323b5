"""What every network does."""

from types import ModuleType

import keras
import numpy as np
import pytest

from tests.networks import build
from tests.training.test_experiment import configured
from vae_runner.experiment import build_experiment
from vae_runner.likelihoods.gaussian_per_pixel import GaussianPerPixel
from vae_runner.models import burgess, conv, gated_mlp, linear, mlp, resnet
from vae_runner.models.schema import ACTIVATIONS
from vae_runner.runtime.hardware import setup
from vae_runner.training.stopwatch import Stopwatch

NETWORKS = (conv, resnet, mlp, gated_mlp, burgess, linear)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model.__name__.rpartition(".")[2])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 11, 3), (64, 64, 3)], ids=str)
def test_images_come_out_as_they_went_in_and_parameters_are_float32(
    model: ModuleType, shape: tuple[int, int, int]
) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        autoencoder = build(shape, 3, model=model, likelihood=GaussianPerPixel(squash_mean=True))
    finally:
        keras.config.set_dtype_policy("float32")
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    assert autoencoder.reconstruct(images).shape == images.shape
    assert {name: output.shape for name, output in autoencoder.decoder.output.items()} == {
        "mean": (None, *shape), "log_scale": (None, *shape)
    }  # fmt: skip
    outputs = [*autoencoder.encoder.outputs, *autoencoder.decoder.outputs]
    assert {output.dtype for output in outputs} == {"float32"}


@pytest.mark.parametrize("model", [gated_mlp, burgess, linear])
def test_labels_are_a_second_input_of_both_networks(model: ModuleType) -> None:
    autoencoder = build((8, 9, 3), 2, model=model, classes=4)
    label = np.eye(4, dtype=np.float32)[:2]
    images, z = np.ones((2, 8, 9, 3), np.float32), np.ones((2, 2), np.float32)
    for network, given in ((autoencoder.encoder, images), (autoencoder.decoder, z)):
        first, second = network([given, label])["mean"]  # of two labels, and the same besides
        assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize("model", [conv, mlp, burgess])
def test_every_activation_is_kerass_and_in_place_of_the_others(model: ModuleType) -> None:
    for kind in ACTIVATIONS:
        autoencoder = build((8, 8, 1), 2, model=model, activation=kind, leaky_relu_slope=0.3)
        for network in (autoencoder.encoder, autoencoder.decoder):
            layers = (keras.layers.Activation, keras.layers.LeakyReLU)
            found = [layer for layer in network.layers if isinstance(layer, layers)]
            x = np.linspace(-2, 2, 9, dtype=np.float32)
            expected = np.where(x > 0, x, 0.3 * x) if kind == "leaky_relu" else keras.activations.get(kind)(x)
            assert found
            for layer in found:
                np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("network", "others"),
    [
        ("linear", ("likelihood=gaussian", "likelihood.squash_mean=false", "optimizer=rmsprop")),
        ("gated_mlp", ("posterior=power_spherical", "prior=sphere", "optimizer=adamax")),
        ("burgess", ("model.conditional=true", "schedule.warmup_epochs=0.5")),
    ],
)
def test_a_network_trains_and_every_weight_moves(network: str, others: tuple[str, ...]) -> None:
    config = configured("loss=vae", *others, model=(f"model={network}", "model.output_bias=mean"))
    experiment = build_experiment(config, setup(config.hardware, config.seed), Stopwatch())
    variables = experiment.autoencoder.trainable_variables
    before = [np.array(variable) for variable in variables]
    metrics = experiment.trainer.run_epoch(lambda progress: None).metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert not [v.path for v, old in zip(variables, before, strict=True) if np.array_equal(v, old)]
