"""Tests that need TensorFlow to have four devices: `test_distributed.py` runs them, for 2 and 4 of these.

Each number has a process of its own, because TensorFlow's collective operations know one group of devices only.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.acceleration.comparing import load_custom_ops
from tests.conftest import mostly_slow
from tests.networks import build, one_player
from vae_runner.acceleration.fuse import fuse
from vae_runner.acceleration.optimizers import Adam, AdamW, Muon
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.datasets.pipeline import Batches
from vae_runner.datasets.schema import AugmentConfig
from vae_runner.errors import UserError
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.losses.base import AUTOENCODER, Batch, Loss
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.reconstruction import Reconstruction
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import synchronize_normalization
from vae_runner.posteriors.point import Point
from vae_runner.priors.normal import Normal
from vae_runner.runtime.hardware import Hardware, _mirrored, setup
from vae_runner.runtime.schema import HardwareConfig
from vae_runner.training.averages import Averages
from vae_runner.training.inner import InnerLoop, Sums
from vae_runner.training.skipping import Skipping

DEVICES = 4
REPLICAS = int(os.environ.get("VAE_RUNNER_TEST_REPLICAS", DEVICES))
BATCH = 16
COUNT = 3 * BATCH + 3  # the last batch has fewer images than there are devices
SEED = 3

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * DEVICES
)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 8, 1), np.uint8)
LABELS = np.arange(COUNT) % 7

Made = tuple[Autoencoder, Loss, keras.optimizers.Optimizer]
Make = Callable[[], Made]


def machine(replicas: int, synchronized: bool | None = None) -> Hardware:
    if replicas == 1:
        return Hardware(tf.distribute.OneDeviceStrategy("CPU:0"), False, {})
    return Hardware(
        _mirrored(*[f"CPU:{i}" for i in range(replicas)]), False, {}, True if synchronized is None else synchronized
    )


def an_epoch(
    hardware: Hardware, make: Make, images: object = IMAGES, ema: float | None = None, **changes: Any
) -> tuple[Sums, Callable[[], Sums], list[np.ndarray]]:
    """The sums of an epoch of training, what computes those of one of evaluation, and all variables after training."""
    keras.utils.set_random_seed(SEED)
    with hardware.strategy.scope():
        autoencoder, loss, optimizer = make()
        synchronize_normalization((autoencoder.encoder, autoencoder.decoder), hardware.synchronized)
        encoder, decoder = (fuse(n, hardware.custom_ops) for n in (autoencoder.encoder, autoencoder.decoder))
        players = one_player(autoencoder, optimizer)
        averages = None
        if ema is not None:
            averaged = make()[0]
            synchronize_normalization((averaged.encoder, averaged.decoder), hardware.synchronized)
            averages = Averages(ema, autoencoder, averaged, averaged, 3, {AUTOENCODER: autoencoder.trainable_variables})
    batches = Batches(images, BATCH, SEED, hardware.strategy)
    fused = replace(autoencoder, encoder=encoder, decoder=decoder)
    inner = InnerLoop(fused, loss, players, hardware, SEED, batches.steps, averages=averages, **changes)
    if hardware.replicas == 1:
        # Tracing takes seconds: only the steps of replicas are traced. test_inner.py compares traced with untraced.
        inner._compiled_train = partial(inner._loop, inner._train_step)
        inner._compiled_estimate = partial(inner._loop, inner._estimation_step)
        inner._compiled_evaluate = partial(inner._loop, inner._evaluation_step)
    trained = inner.train(batches, batches.shares(0), 0, batches.steps)
    if averages:
        averages.copy_state()
        inner.estimate(batches, batches.shares(1), 0, averages.batches)
        for variable in averages.variables:
            first, *others = hardware.strategy.experimental_local_results(variable.value)
            assert all(np.array_equal(first, other) for other in others)
    test = Batches(images, 10, strategy=hardware.strategy)
    variables = [*autoencoder.encoder.variables, *autoencoder.decoder.variables, *optimizer.variables]
    variables += averages.variables if averages else []
    evaluate = partial(inner.evaluate, test, test.shares(), 0, test.steps)
    return trained, evaluate, [np.asarray(variable) for variable in variables]


def own_batch_normalization() -> Made:
    """Keras's own layer, as in a network of the user's."""
    images = keras.Input((12, 8, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(6)(keras.layers.Flatten()(images)))
    encoder = keras.Model(images, {"mean": keras.layers.Dense(2)(x)})
    z = keras.Input((2,))
    pixels = keras.layers.Reshape((12, 8, 1))(keras.layers.Dense(96, activation="sigmoid")(z))
    autoencoder = Autoencoder(encoder, keras.Model(z, {"mean": pixels}), Point(), Normal(), MeanSquaredError())
    return autoencoder, Reconstruction(), keras.optimizers.SGD(1e-3)


def small() -> Autoencoder:
    """A network without convolutions, for what an optimizer does with the variables of any."""
    return build((12, 8, 1), model=mlp, width=8, normalization="batch")


def loss_scaled() -> Made:
    return small(), Elbo(), keras.optimizers.LossScaleOptimizer(Adam(1e-3, global_clipnorm=0.5, use_ema=True))


class Noisy(Elbo):
    """A loss that asks for noise of several kinds, of which each image has its own."""

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        loss, terms = super().__call__(autoencoder, batch, training)
        brightness = tf.reduce_mean(batch.images, axis=[1, 2, 3])
        drawn = tf.reduce_sum(batch.noise.uniform([3]) * batch.noise.normal([3]), axis=1) * batch.noise.uniform([])
        return loss + tf.reduce_mean(brightness * drawn), terms


MAKES: dict[str, Make] = {
    "noisy": lambda: (build((12, 8, 1), filters=4), Noisy(), Adam(1e-3)),
    "ae, clipped one by one": lambda: (
        build((12, 8, 1), 40, Point(), filters=4), Reconstruction(), AdamW(1e-3, weight_decay=0.01, clipnorm=0.1)
    ),
    "mlp, clipped, averaged, scaled": loss_scaled,
    "keras": own_batch_normalization,
    "muon": lambda: (build((12, 8, 1), filters=4), Elbo(), Muon(1e-3)),
}  # fmt: skip


@cache
def by_one(name: str) -> tuple[Sums, Callable[[], Sums], list[np.ndarray]]:
    """What one device computes in an epoch."""
    return an_epoch(machine(1), MAKES[name])


@pytest.mark.parametrize("name", mostly_slow(MAKES))
def test_replicas_compute_what_one_computes_over_an_epoch(name: str) -> None:
    ours, theirs = an_epoch(machine(REPLICAS), MAKES[name]), by_one(name)
    for a, b in ((ours[0], theirs[0]), (ours[1](), theirs[1]())):
        assert a.images == b.images == COUNT
        assert a.bad_step == -1
        np.testing.assert_allclose(a.terms, b.terms, rtol=1e-4)
    for a, b in zip(ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5)


def test_the_average_of_the_weights_is_the_same_on_every_replica_and_what_one_computes() -> None:
    ours, theirs = (an_epoch(machine(n), MAKES["keras"], ema=0.2) for n in (REPLICAS, 1))
    np.testing.assert_allclose(ours[1]().terms, theirs[1]().terms, rtol=1e-4)
    for a, b in zip(ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5)


def test_a_step_that_is_too_large_changes_nothing_on_any_replica() -> None:
    hardware = machine(REPLICAS)
    keras.utils.set_random_seed(SEED)
    with hardware.strategy.scope():
        autoencoder, loss, optimizer = small(), Elbo(), Adam(1e-3)
        player = one_player(autoencoder, optimizer)[AUTOENCODER]._replace(skipping=Skipping(1e-3))
    assert player.skipping is not None
    held = [*player.variables, *optimizer.variables]
    before = [np.array(variable) for variable in held]
    batches = Batches(IMAGES, BATCH, SEED, hardware.strategy)
    inner = InnerLoop(autoencoder, loss, {AUTOENCODER: player}, hardware, SEED, batches.steps)
    inner.train(batches, batches.shares(0), 0, batches.steps)
    for variable, value in zip([*held, player.skipping.count], [*before, batches.steps], strict=True):
        for copy in hardware.strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy, value)


def test_replicas_draw_the_augmented_and_binary_images_that_one_draws() -> None:
    changes = {"augmentation": AugmentConfig(flip=True, shift=1, crop=0.2, brightness=0.2), "binarizes": True}
    ours, theirs = (an_epoch(machine(n), MAKES["noisy"], **changes)[0] for n in (REPLICAS, 1))
    np.testing.assert_allclose(ours.terms, theirs.terms, rtol=1e-4)
    grey = by_one("noisy")[0]
    assert not np.allclose(grey.terms, theirs.terms, rtol=1e-3)


@pytest.mark.slow
def test_without_synchronized_batch_normalization_it_is_another_computation_and_finite() -> None:
    apart, together = (an_epoch(machine(REPLICAS, synchronized), MAKES["noisy"]) for synchronized in (False, True))
    assert not np.allclose(apart[0].terms, together[0].terms, rtol=1e-3)
    assert all(np.isfinite(values).all() for values in apart[2])


def test_custom_operations_compute_the_same_on_every_replica() -> None:
    def make() -> Made:
        # As in test_inner.py, so that little is made of rounding.
        autoencoder = build((12, 8, 1), filters=16, leaky_relu_slope=0.9)
        return autoencoder, Elbo(), Adam(1e-3, epsilon=1e-4)

    apart = machine(REPLICAS, synchronized=False)
    ours, theirs = (an_epoch(replace(apart, custom_ops=ops), make) for ops in (load_custom_ops(), None))
    np.testing.assert_allclose(ours[0].terms, theirs[0].terms, rtol=1e-4)
    for a, b in zip(ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=3e-5)


def test_a_step_that_is_not_finite_on_one_replica_is_found() -> None:
    images = np.zeros((BATCH, 12, 8, 1), np.uint8)

    class Infinite(Elbo):
        def __call__(self, autoencoder, batch, training):
            loss, terms = super().__call__(autoencoder, batch, training)
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return loss + tf.where(replica == REPLICAS - 1, np.inf, 0.0), terms

    def make() -> Made:
        return small(), Infinite(), Adam(1e-3)

    trained, _, _ = an_epoch(machine(REPLICAS), make, images)
    assert trained.bad_step == 0


def test_overflow_on_one_replica_keeps_all_of_them_from_the_update() -> None:
    """Keras looks for it before it has summed the gradients, on the first replica alone."""

    class Overflowing(Elbo):
        def __call__(self, autoencoder, batch, training):
            loss, terms = super().__call__(autoencoder, batch, training)
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return loss * tf.where(replica == REPLICAS - 1, np.inf, 1.0), terms

    def make() -> Made:
        autoencoder, _, optimizer = loss_scaled()
        return autoencoder, Overflowing(), optimizer

    with machine(REPLICAS).strategy.scope():
        keras.utils.set_random_seed(SEED)
        before = [np.asarray(variable) for variable in small().encoder.trainable_variables]
    _, _, after = an_epoch(machine(REPLICAS), make, IMAGES[:BATCH])
    kernels = [value for value in after if value.shape == before[0].shape]
    np.testing.assert_array_equal(kernels[0], before[0])


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("replicas", [2, 3, 4])
@pytest.mark.parametrize("first", [0, 2])  # that of an epoch which goes on
def test_replicas_share_each_batch_out_and_each_image_comes_once(
    stored: bool, replicas: int, first: int, tmp_path: Path
) -> None:
    (tmp_path / "images.u8").write_bytes(IMAGES.tobytes())
    images = StoredImages(tmp_path / "images.u8", IMAGES.shape) if stored else IMAGES
    strategy = machine(replicas).strategy
    batches, alone = Batches(images, BATCH, SEED, strategy, LABELS), Batches(images, BATCH, SEED, labels=LABELS)
    label_of = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    shares = islice(batches.shares(2, first), batches.steps - first)
    for share, whole in zip(shares, islice(alone.shares(2), first, alone.steps), strict=True):
        parts = strategy.experimental_local_results(strategy.run(batches.images, args=(share,)))
        labels = strategy.experimental_local_results(strategy.run(batches.labels, args=(share,)))
        for images_of_it, labels_of_it in zip(parts, labels, strict=True):
            assert labels_of_it.numpy().tolist() == [label_of[image.tobytes()] for image in images_of_it.numpy()]
        weights = [float(weight) for weight in strategy.experimental_local_results(share.weight)]
        expected = alone.images(whole).numpy()
        assert sum(weights) == pytest.approx(len(expected))
        if len(expected) >= replicas:
            assert weights == [len(part) for part in parts]
            assert max(weights) - min(weights) <= 1
            np.testing.assert_array_equal(np.concatenate(parts), expected)
        else:
            for part in parts:
                np.testing.assert_array_equal(part, expected)


def test_xla_for_several_cpu_devices_is_refused() -> None:
    config = HardwareConfig(distribution="mirrored", logical_cpus=DEVICES, xla=True)
    with pytest.raises(UserError, match=r"hardware\.xla=true: XLA does not compile steps over several CPU devices"):
        setup(config, SEED)


def test_the_keys_make_replicas_and_synchronized_batch_normalization() -> None:
    machine = setup(HardwareConfig(distribution="mirrored", logical_cpus=DEVICES), SEED)
    assert machine.replicas == machine.description["replicas"] == DEVICES
    assert machine.synchronized
    apart = setup(HardwareConfig(distribution="mirrored", logical_cpus=DEVICES, sync_batch_norm=False), SEED)
    assert not apart.synchronized
    assert apart.strategy is machine.strategy  # the runs of a sweep share it
