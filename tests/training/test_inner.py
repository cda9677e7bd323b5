"""The compiled loops against plain, eager code that does the same step by step."""

import sys
import time as clock
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api as autograph

from tests.acceleration.comparing import load_custom_ops
from tests.conftest import mostly_slow, random_dataset
from tests.networks import build, one_player
from tests.small_experiments import SMALL, built
from vae_runner.acceleration.fuse import fuse
from vae_runner.acceleration.optimizers import Adam
from vae_runner.datasets.dataset import Dataset, Split
from vae_runner.datasets.pipeline import Batches
from vae_runner.losses.base import AUTOENCODER, Batch, Loss
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.reconstruction import Reconstruction
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.variables import Variables
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.posteriors.point import Point
from vae_runner.runtime.hardware import Hardware
from vae_runner.training import outer
from vae_runner.training.inner import InnerLoop
from vae_runner.training.noise import GivenNoise
from vae_runner.training.outer import DivergedError, EpochResult, Position, Progress, Trainer
from vae_runner.training.schedules import LearningRate, constant, exponential
from vae_runner.training.stopwatch import Stopwatch

BATCH = 16
SEED = 3
ONE_STEP, ALL_STEPS = 0, 1e9  # seconds a call: after two calls of one step, all that are left come in the third


def machine(xla: bool = False, ops: Any = None) -> Hardware:
    return Hardware(tf.distribute.OneDeviceStrategy("/cpu:0"), xla, {}, custom_ops=ops)


def make(
    dataset: Dataset,
    loss: Loss | None = None,
    xla: bool = False,
    filters: int = 4,
    slope: float = 0.2,
    ops: Any = None,
    **optimizer: float,
) -> tuple[Autoencoder, InnerLoop]:
    keras.utils.set_random_seed(SEED)
    loss = loss or Elbo()
    posterior = Point() if isinstance(loss, Reconstruction) else Gaussian()
    autoencoder = build(dataset.image_shape, 2, posterior, filters=filters, leaky_relu_slope=slope)
    encoder, decoder = (fuse(network, ops) for network in (autoencoder.encoder, autoencoder.decoder))
    adam = Adam(**{"learning_rate": 1e-3, **optimizer})
    if keras.config.dtype_policy().name == "mixed_float16":
        adam = keras.optimizers.LossScaleOptimizer(adam)
    players = one_player(autoencoder, adam)
    fused = replace(autoencoder, encoder=encoder, decoder=decoder)
    return autoencoder, InnerLoop(fused, loss, players, machine(xla, ops), SEED, steps_per_epoch=4)


def optimizer_of(inner: InnerLoop) -> keras.optimizers.Optimizer:
    return inner._players[AUTOENCODER].optimizer


def weights(autoencoder: Autoencoder) -> list[np.ndarray]:
    return [*autoencoder.encoder.get_weights(), *autoencoder.decoder.get_weights()]


def evaluate(inner: InnerLoop, batches: Batches) -> dict[str, float]:
    """Means over a split."""
    return Trainer(inner, batches, {}, LearningRate(1, constant, 1, 1))._evaluate("test", batches)


def epochs(trainer: Trainer, count: int, on_progress: Callable[[Progress], object] = id) -> Iterator[EpochResult]:
    """The results of so many epochs."""
    for _ in range(count):
        yield trainer.run_epoch(on_progress)
        trainer.next_epoch()


class Stoppable:
    """Three epochs that begin anew each time, of loops that are traced once."""

    def __init__(self, dataset: Dataset) -> None:
        self.rate = LearningRate(1e-3, partial(exponential, decay=0.5), 3, 4)
        autoencoder, self.inner = make(dataset, Elbo(kl_warmup_epochs=2), learning_rate=self.rate)
        self.train, self.test = Batches(dataset.train.images, BATCH, SEED), Batches(dataset.test.images, 7)
        self.variables = Variables({**autoencoder.parts, "optimizer": optimizer_of(self.inner)})
        self.initial = self.variables.values()

    def begin(self, shielded: Callable[[], AbstractContextManager[None]] = nullcontext) -> Trainer:
        """A trainer before its first step."""
        self.variables.assign(self.initial)
        return Trainer(self.inner, self.train, {"test": self.test}, self.rate, shielded=shielded)


@pytest.fixture(scope="module")
def stoppable() -> Stoppable:
    return Stoppable(random_dataset())


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("shape", mostly_slow([(19, 30, 3), (8, 8, 1), (28, 28, 1)]))
def test_the_compiled_loop_equals_a_plain_loop_of_kerass_own_layers_over_an_epoch(
    shape: tuple[int, int, int], custom: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, *shape), np.uint8)
    small_dataset = Dataset(Split(images, None), Split(images[:5], None))
    ops = load_custom_ops() if custom else None
    # What makes much of rounding is kept small: Adam divides gradients by little more than themselves, and numbers near
    # 0 fall on either side of LeakyReLU's bend.
    epsilon, slope = 1e-4, 0.9
    autoencoder, inner = make(small_dataset, filters=16, slope=slope, ops=ops, epsilon=epsilon)
    encoder, decoder = (keras.models.clone_model(n) for n in (autoencoder.encoder, autoencoder.decoder))
    for copy, network in ((encoder, autoencoder.encoder), (decoder, autoencoder.decoder)):
        copy.set_weights(network.get_weights())
    adam = keras.optimizers.Adam(1e-3, epsilon=epsilon)
    variables = encoder.trainable_variables + decoder.trainable_variables
    order = np.random.default_rng([SEED, 0]).permutation(50)
    losses = []
    for step in range(4):
        images = small_dataset.train.images[order[step * BATCH : (step + 1) * BATCH]] / np.float32(255)
        noise = tf.random.stateless_normal([len(images), 2], [SEED, step], alg="philox")
        with tf.GradientTape() as tape:
            outputs = encoder(images, training=True)
            mean, log_var = outputs["mean"], outputs["log_var"]
            decoded = decoder(mean + tf.exp(log_var / 2) * noise, training=True)["mean"]
            error = tf.reduce_mean((images - decoded) ** 2, axis=[1, 2, 3])
            kl = tf.reduce_sum(-0.5 * (1 + log_var - mean**2 - tf.exp(log_var)), axis=1)
            loss = tf.reduce_mean(1000 * error + kl)
        adam.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        losses.append(float(loss) * len(images))

    batches = Batches(small_dataset.train.images, BATCH, SEED)
    sums = inner.train(batches, batches.shares(0), 0, 4)

    np.testing.assert_allclose(sums.terms[0], sum(losses), rtol=1e-4)
    for ours, theirs in zip(weights(autoencoder), encoder.get_weights() + decoder.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-5)


def test_sums_and_weights_after_an_epoch_do_not_depend_on_how_it_is_cut_into_calls(small_dataset: Dataset) -> None:
    batches = Batches(small_dataset.train.images, 3, SEED)
    assert batches.steps == 17
    autoencoder, inner = make(small_dataset)
    variables = Variables({**autoencoder.parts, "optimizer": optimizer_of(inner)})
    initial, results = variables.values(), []
    for cuts in ([17], [1, 16], [5, 5, 7], [1] * 17):
        variables.assign(initial)
        shares, step, sums = batches.shares(0), 0, None
        for steps in cuts:
            sums = inner.train(batches, shares, step, steps, sums)
            step += steps
        assert sums.images == 50  # The last batch, which is smaller, counts too.
        results.append((sums.terms, variables.values()))
    (terms, values), *others = results
    assert not any(np.array_equal(values[name], initial[name]) for name in values if name.startswith("encoder/"))
    for other_terms, other_values in others:
        np.testing.assert_array_equal(other_terms, terms)
        for name, value in values.items():
            np.testing.assert_array_equal(other_values[name], value, err_msg=name)


def test_evaluation_is_the_mean_over_all_images_and_changes_nothing(small_dataset: Dataset) -> None:
    autoencoder, inner = make(small_dataset, Reconstruction())
    before = weights(autoencoder)
    result = evaluate(inner, Batches(small_dataset.test.images, 7))

    images = small_dataset.test.images / np.float32(255)
    error = np.mean((autoencoder.reconstruct(images).numpy() - images) ** 2)
    np.testing.assert_allclose(result["loss"], 1000 * error, rtol=1e-5)
    for a, b in zip(before, weights(autoencoder), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluation_repeats_itself_and_takes_the_full_kl_weight_during_warm_up(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset, Elbo(kl_weight=2, kl_warmup_epochs=100))
    batches = Batches(small_dataset.test.images, 7)
    result = evaluate(inner, batches)
    assert result == evaluate(inner, batches)
    np.testing.assert_allclose(result["loss"], result["reconstruction"] + 2 * result["kl"], rtol=1e-5)


def test_the_noise_of_evaluation_follows_from_seed_and_batch_however_it_is_cut_into_calls(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder, inner = make(small_dataset)
    batches = Batches(small_dataset.test.images, 3)  # 7 of them
    results = []
    for seconds in (ONE_STEP, ALL_STEPS):
        monkeypatch.setattr(outer, "SECONDS_PER_CALL", seconds)
        results.append(evaluate(inner, batches))
    assert results[0] == results[1]

    loss = 0.0
    for number in range(7):
        images = small_dataset.test.images[3 * number : 3 * (number + 1)] / np.float32(255)
        noise = tf.random.stateless_normal([len(images), 2], [SEED, -1 - number], alg="philox")
        batch = Batch(tf.constant(images), None, GivenNoise([noise]), tf.constant(np.inf))
        loss += len(images) * float(Elbo()(autoencoder, batch, training=False)[0])
    assert results[0]["loss"] == pytest.approx(loss / 20, rel=1e-6)


def test_kl_warm_up_follows_the_steps(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset, Elbo(kl_warmup_epochs=2))
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    shares = batches.shares(0)
    for step in range(4):
        loss, reconstruction, kl = inner.train(batches, shares, step, 1).terms
        np.testing.assert_allclose(loss, reconstruction + step / 8 * kl, rtol=1e-4)


def test_xla_computes_the_same(small_dataset: Dataset) -> None:
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    results = []
    for xla in (False, True):
        autoencoder, inner = make(small_dataset, xla=xla)
        sums = inner.train(batches, batches.shares(0), 0, 2)
        results.append((sums.terms, weights(autoencoder)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"], indirect=True)
def test_mixed_precision_trains_with_float32_weights(small_dataset: Dataset, policy: str) -> None:
    autoencoder, inner = make(small_dataset)
    assert {v.dtype for v in autoencoder.trainable_variables} == {"float32"}
    assert {part.compute_dtype for part in autoencoder.encoder.layers if part.name == "conv_1"} == {
        policy.removeprefix("mixed_")
    }
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    losses = [inner.train(batches, batches.shares(e), 4 * e, 4).terms[0] for e in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_mixed_float16_scales_the_loss_and_skips_steps_that_overflow(small_dataset: Dataset, policy: str) -> None:
    autoencoder, inner = make(small_dataset)
    optimizer = optimizer_of(inner)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    optimizer.dynamic_scale.assign(1e30)
    before = [v.numpy() for v in autoencoder.trainable_variables]
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    inner.train(batches, batches.shares(0), 0, 1)
    assert float(optimizer.dynamic_scale) == pytest.approx(5e29)
    for a, b in zip(before, autoencoder.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_gradient_clipping_is_the_optimizers_and_bounds_the_update(small_dataset: Dataset) -> None:
    autoencoder, inner = make(small_dataset, global_clipnorm=1e-12, epsilon=1.0)
    before = [v.numpy() for v in autoencoder.trainable_variables]
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    inner.train(batches, batches.shares(0), 0, 2)
    for a, b in zip(before, autoencoder.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-9)


def test_a_whole_run_traces_each_function_once(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset)
    rate = LearningRate(1e-3, constant, 5, 4)
    test = Batches(small_dataset.test.images, BATCH)
    trainer = Trainer(inner, Batches(small_dataset.train.images, BATCH, SEED), {"test": test}, rate)
    list(epochs(trainer, 5))
    for function in (inner._compiled_train, inner._compiled_evaluate):
        assert function.experimental_get_tracing_count() == 1


def test_an_epochs_result_has_the_metrics_of_the_table_in_order(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset)
    rate = LearningRate(1e-3, partial(exponential, decay=0.5), 2, 4)
    evaluated = {name: Batches(small_dataset.test.images, BATCH) for name in ("validation", "test")}
    stopwatch = Stopwatch()
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    trainer = Trainer(inner, batches, evaluated, rate, stopwatch)
    progress = []
    results = list(epochs(trainer, 2, progress.append))

    assert [(r.epoch, r.step) for r in results] == [(1, 4), (2, 8)]
    assert list(results[0].metrics) == [
        *("train/loss", "train/reconstruction", "train/kl"),
        *("validation/loss", "validation/reconstruction", "validation/kl"),
        *("test/loss", "test/reconstruction", "test/kl"),
        *("learning_rate", "train/images_per_second", "seconds"),
    ]
    assert [p.images for p in progress if p.epoch == 1][:2] == [16, 32]
    assert [p.images for p in progress if p.epoch == 1][-1] == 50
    assert progress[-1].terms["loss"] == results[-1].metrics["train/loss"]
    sums = make(small_dataset)[1].train(batches, batches.shares(0), 0, 4)  # images and noise of the first epoch
    assert results[0].metrics["train/loss"] == sums.terms[0] / 50
    last_steps = [3.5 / 4, 7.5 / 4]  # their middles, in epochs
    assert [r.metrics["learning_rate"] for r in results] == pytest.approx([1e-3 * 0.5**epoch for epoch in last_steps])
    assert list(stopwatch.seconds) == ["first_step", "training", "evaluation"]
    assert stopwatch.seconds["first_step"] > stopwatch.seconds["training"]  # it waits for the tracing


@pytest.mark.parametrize(
    ("where", "time"),
    [((1, 2), 1), ((2, 3), 1), ((2, 4), 2)],  # within the first epoch, the second, and the evaluation after it
)
def test_what_was_stopped_goes_on_like_what_was_not_however_steps_are_cut_into_calls(
    where: tuple[int, int], time: int, stoppable: Stoppable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_clock(results: list[EpochResult]) -> list[tuple[object, ...]]:
        clock = ("train/images_per_second", "seconds")
        return [(r.epoch, r.step, {k: v for k, v in r.metrics.items() if k not in clock}) for r in results]

    monkeypatch.setattr(outer, "SECONDS_PER_CALL", ALL_STEPS)
    expected = list(epochs(stoppable.begin(), 3))
    reference = stoppable.variables.values()

    class StoppedError(Exception):
        pass

    @contextmanager
    def stopping() -> Iterator[None]:
        yield
        positions.append((stopped.position.epoch, stopped.position.steps))
        if positions.count(where) == time:
            raise StoppedError

    positions: list[tuple[int, int]] = []
    monkeypatch.setattr(outer, "SECONDS_PER_CALL", ONE_STEP)
    stopped = stoppable.begin(stopping)
    with pytest.raises(StoppedError):
        list(epochs(stopped, 3))
    kept = stoppable.variables.values()
    resumed = stoppable.begin()
    stoppable.variables.assign(kept)
    resumed.position = stopped.position
    results = list(epochs(resumed, 4 - where[0]))

    assert without_clock(results) == without_clock(expected[where[0] - 1 :])
    values = stoppable.variables.values()
    for name, value in reference.items():
        np.testing.assert_array_equal(values[name], value)


def test_an_epoch_that_goes_on_has_the_seconds_that_it_took_before_and_a_pace_of_its_own(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(pace: outer._Pace, steps: int, images: float, seconds: float) -> None:
        noted.append((steps, images))
        original(pace, steps, images, seconds)

    noted: list[tuple[int, float]] = []
    original = outer._Pace.note
    monkeypatch.setattr(outer._Pace, "note", note)
    _, inner = make(small_dataset)
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    trainer = Trainer(inner, batches, {}, LearningRate(1, constant, 1, 4))
    sums = inner.train(batches, batches.shares(0), 0, 3)
    trainer.position = Position(1, 3, sums, seconds=1000.0, images_per_second=1e-6)
    start = clock.monotonic()
    metrics = trainer.run_epoch(id).metrics
    assert 1000 < metrics["seconds"] <= 1000 + clock.monotonic() - start
    assert trainer.position.images_per_second == metrics["train/images_per_second"] > 1e-3
    assert noted == [(1, 2)]  # not the images of the calls before


def test_a_call_takes_half_a_second_of_steps_and_the_first_is_not_measured() -> None:
    pace = outer._Pace(7.0)
    told = []
    for steps, images, seconds in [(1, 10, 5.0), (1, 10, 0.125), (4, 40, 1.0), (2, 20, 1e-9), (9, 90, 1e9)]:
        pace.note(steps, images, seconds)
        told.append((pace.steps_per_call, pace.images_per_second))
    assert told[:3] == [(1, 2), (4, 80), (2, pytest.approx(50 / 1.125))]
    assert [steps for steps, _ in told[3:]] == [outer.MAX_STEPS_PER_CALL, 1]


def python_calls(work: Callable[[], object]) -> int:
    """How many functions, Python's and C's, this thread calls meanwhile."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_python_does_nothing_once_a_step(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset)
    batches = Batches(small_dataset.train.images, 1, SEED)
    shares = batches.shares(0)
    inner.train(batches, shares, 0, 1)  # traces
    inner.train(batches, shares, 1, 1)
    few = python_calls(lambda: inner.train(batches, shares, 2, 2))
    many = python_calls(lambda: inner.train(batches, shares, 4, 42))
    assert many < few + 40  # not one more a step


def test_images_are_uint8_until_they_are_in_the_compiled_step(small_dataset: Dataset) -> None:
    _, inner = make(small_dataset)
    seen = []

    def spy(step: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        return lambda pixels, *others: (seen.append(pixels.dtype), step(pixels, *others))[1]

    inner._gradient_step, inner._loss_only = spy(inner._gradient_step), spy(inner._loss_only)
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    shares = batches.shares(0)
    assert batches.images(next(shares)).dtype == tf.uint8
    inner.train(batches, shares, 1, 1)
    evaluate(inner, Batches(small_dataset.test.images, BATCH))
    assert seen == [tf.uint8, tf.uint8]


def test_a_loss_that_stops_being_finite_names_the_step_and_the_terms(small_dataset: Dataset) -> None:
    autoencoder, inner = make(small_dataset)
    trainer = Trainer(inner, Batches(small_dataset.train.images, BATCH, SEED), {}, LearningRate(1, constant, 2, 4))
    results = epochs(trainer, 2)
    next(results)
    autoencoder.trainable_variables[0].assign(np.nan * np.ones(autoencoder.trainable_variables[0].shape))
    with pytest.raises(DivergedError, match=r"at step 5 \(epoch 2\): loss nan, reconstruction nan, kl nan"):
        next(results)


def test_the_first_step_that_is_not_finite_is_named_with_its_means(small_dataset: Dataset) -> None:
    class Infinite(Elbo):
        """From step 2 on, counted from 0."""

        def __call__(self, autoencoder, batch, training):
            loss, terms = super().__call__(autoencoder, batch, training)
            return loss + tf.where(batch.epoch < 0.5, 0.0, np.inf), terms | {"kl": tf.constant(5.0)}

    _, inner = make(small_dataset, Infinite())
    batches = Batches(small_dataset.train.images, BATCH, SEED)
    sums = inner.train(batches, batches.shares(0), 0, 4)
    assert sums.bad_step == 2
    assert sums.bad_terms[[0, 2]].tolist() == [np.inf, 5]


def test_an_evaluation_that_is_not_finite_ends_the_run_too(small_dataset: Dataset) -> None:
    autoencoder, inner = make(small_dataset)
    averages = next(part for part in autoencoder.encoder.layers if part.name == "norm_1").moving_mean
    averages.assign(np.nan * np.ones(averages.shape))  # training does not read them
    batches = Batches(small_dataset.train.images, 50, SEED)
    rate = LearningRate(1, constant, 2, 1)
    trainer = Trainer(inner, batches, {"test": Batches(small_dataset.test.images, BATCH)}, rate)
    with pytest.raises(DivergedError, match=r"on the test images after epoch 1: loss nan"):
        next(epochs(trainer, 2))


def test_the_gradient_of_a_row_that_is_read_several_times_is_squared_as_a_sum() -> None:
    # Squared parts, Σ gᵢ² in place of (Σ gᵢ)², would make Adam's steps too long or too short.
    experiment = built("posterior=vq", "posterior.codes=2", "posterior.update=loss", "prior=categorical", "loss=vq")
    batches = experiment.trainer._train
    experiment.trainer._inner.train(batches, batches.shares(), 0, 1)
    optimizer = experiment.trainer._inner._players[AUTOENCODER].optimizer
    [codebook] = experiment.autoencoder.posterior.trainable_variables
    index = next(i for i, v in enumerate(optimizer._trainable_variables) if v is codebook)
    first, second = (np.array(slots[index]) for slots in (optimizer._momentums, optimizer._velocities))
    gradient = first / (1 - optimizer.beta_1)
    assert np.abs(gradient).max() > 0
    np.testing.assert_allclose(second / (1 - optimizer.beta_2), gradient**2, rtol=1e-3)


def test_a_run_has_autograph_rewrite_nothing(
    in_process: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten = []
    convert = autograph._convert_actual

    def noted(entity: Any, context: Any) -> Any:
        rewritten.append(getattr(entity, "__qualname__", entity))
        return convert(entity, context)

    monkeypatch.setattr(autograph, "_convert_actual", noted)
    monkeypatch.setattr("vae_runner.datasets.pipeline.RESIDENT_BYTES", 0)  # so that images are read, too
    tf.function(lambda: tf.constant(0))()
    assert len(rewritten) == 1  # It is noted where something is.
    rewritten.clear()
    in_process("vae-run", *SMALL, "figures=none", "evaluation=none", cwd=tmp_path)
    assert rewritten == []
