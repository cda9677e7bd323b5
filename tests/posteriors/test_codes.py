"""Posteriors over codes, against what is computed by hand."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.small_experiments import built
from vae_runner.distributions.codes import (
    Categorical,
    Quantized,
    RelaxedCategorical,
    UniformCodes,
    WeighedCodes,
    perplexity,
)
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.evaluation.codes import code_frequencies
from vae_runner.evaluation.embeddings import posterior_of
from vae_runner.losses.base import Batch
from vae_runner.losses.vector_quantized import VectorQuantized
from vae_runner.posteriors.fsq import FiniteScalarQuantizer
from vae_runner.posteriors.gumbel import Gumbel
from vae_runner.posteriors.vq import VectorQuantizer
from vae_runner.training.noise import NumpyNoise

IMAGE = (8, 8, 1)
DECAY = 0.9


def codebook(vectors: NDArray[np.float64] | list[list[float]], **keys: object) -> VectorQuantizer:
    """Return a posterior with these vectors."""
    made = VectorQuantizer(
        **{"codes": len(vectors), "update": "ema", "decay": DECAY, "cosine": False, "kmeans": False}
        | {"restart_below": 0.0}
        | keys
    )
    made.create_weights(IMAGE, (2, 2, len(vectors[0])), 0)
    made._codebook.assign(vectors)
    return made


def noise(images: int) -> NumpyNoise:
    return NumpyNoise(np.random.default_rng(0), images)


def fitted(posterior: VectorQuantizer, rows: NDArray[np.float32]) -> Quantized:
    """Take one training step's part of images with the embeddings `[images, dimensions]`."""
    q = posterior.distribution({"embedding": tf.constant(rows, tf.float32)})
    after = posterior.fitted(q, noise(len(rows)), tf.constant(0.0), tf.identity)
    assert isinstance(after, Quantized)
    return after


def test_a_position_gets_the_nearest_vector_and_the_gradient_passes_it_by() -> None:
    posterior = codebook([[0, 0], [1, 1.5], [-2, 0]])
    embedding = tf.constant([[0.9, 2.0, -0.2, 0.1], [-1.2, 0.3, 1.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch(embedding)
        q = posterior.distribution({"embedding": embedding})
        total = tf.reduce_sum(q.mean * [[1.0, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(q.codes, [[1, 0], [2, 1]])
    np.testing.assert_allclose(q.mean, [[1, 1.5, 0, 0], [-2, 0, 1, 1.5]], atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(total, embedding), [[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(posterior.embed(q.codes), q.nearest)


def test_with_cosine_the_nearest_vector_has_the_smallest_angle_whatever_its_length() -> None:
    posterior = codebook([[10.0, 0.0], [0.1, 0.1]], cosine=True)
    q = posterior.distribution({"embedding": tf.constant([[0.0, 3.0, 5.0, 1.0]])})
    np.testing.assert_array_equal(q.codes, [[1, 0]])
    np.testing.assert_allclose(q.nearest, [[0.5**0.5, 0.5**0.5, 1, 0]], rtol=1e-6)


@pytest.mark.parametrize("size", [2, 64, 256])
def test_a_codebook_begins_with_many_vectors_in_use_whatever_their_size(size: int) -> None:
    """With a length that grows with their size the shortest of 1,024 would be the nearest to nearly every position."""
    posterior = VectorQuantizer(1024, "loss", DECAY, cosine=False, kmeans=False, restart_below=0.0)
    posterior.create_weights(IMAGE, (2, 2, size), 0)
    rows = np.random.default_rng(0).normal(0, 0.3, (1000, 4 * size))
    frequencies = np.bincount(np.ravel(fitted(posterior, rows).codes), minlength=1024) / 4000
    assert perplexity(frequencies) > 100


def test_averages_move_as_their_closed_form_says() -> None:
    first = np.array([[0.0, 0.0], [4.0, 4.0], [90.0, 90.0]])
    posterior = codebook(first)
    random = np.random.default_rng(0)
    batches = [random.normal(2, 3, (5, 8)).astype(np.float32) for _ in range(4)]
    counts, vectors = np.ones(3), first.copy()
    totals = first.copy()  # Σ decay^… · positions, the vector at the start being the first
    for batch in batches:
        rows = batch.reshape(-1, 2)
        nearest = np.argmin(((rows[:, np.newaxis] - vectors) ** 2).sum(axis=2), axis=1)
        counts = DECAY * counts + (1 - DECAY) * np.bincount(nearest, minlength=3)
        totals = DECAY * totals + (1 - DECAY) * np.array([rows[nearest == code].sum(axis=0) for code in range(3)])
        vectors = totals / counts[:, np.newaxis]
        fitted(posterior, batch)
        np.testing.assert_allclose(posterior._codebook, vectors, rtol=1e-5)
        np.testing.assert_allclose(posterior._counts, counts, rtol=1e-5)
    np.testing.assert_allclose(vectors[2], 90, rtol=1e-5)  # One that nothing is near to stays where it is.


def test_a_vector_that_is_hardly_taken_begins_again_at_a_position_of_the_batch() -> None:
    posterior = codebook([[0.0, 0.0], [90.0, 90.0], [95.0, 95.0]], restart_below=0.95)
    batch = np.random.default_rng(0).normal(0, 1, (5, 8)).astype(np.float32)
    fitted(posterior, batch)
    rows = {tuple(row) for row in batch.reshape(-1, 2)}
    restarted = [tuple(np.asarray(vector)) for vector in posterior._codebook[1:]]
    assert len(set(restarted)) == 2
    assert rows.issuperset(restarted)
    assert tuple(np.asarray(posterior._codebook[0])) not in rows
    assert np.all(np.asarray(posterior._counts) >= 0.95)


def test_kmeans_begins_at_the_centres_of_the_first_batch_and_of_that_only() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[-5.0, 0.0], [5.0, 1.0], [0.0, 9.0]])
    rows = centres[np.arange(60) % 3] + random.normal(0, 0.1, (60, 2))
    posterior = codebook([[0.0, 0.0]] * 3, kmeans=True)
    batch = rows.reshape(-1, 8).astype(np.float32)
    q = fitted(posterior, batch)
    found = np.asarray(posterior._codebook)
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], centres[[0, 2, 1]], atol=0.1)
    np.testing.assert_allclose(q.nearest, np.asarray(posterior.embed(q.codes)), atol=0.1)
    np.testing.assert_allclose(q.nearest, batch, atol=0.5)
    fitted(posterior, batch + 100)
    assert np.abs(np.asarray(posterior._codebook)).max() < 100  # averages now, not the centres of a batch


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_the_codebooks_error_moves_vectors_and_the_commitment_error_embeddings(update: str) -> None:
    """The public code that takes both after the straight-through gradient moves no vector."""
    experiment = built(
        "method=vq_vae", "latent=2", f"posterior.update={update}", "posterior.codes=3", "posterior.kmeans=false",
        "posterior.restart_below=0",
    )  # fmt: skip
    autoencoder = experiment.autoencoder
    images = tf.constant(experiment.dataset.train.images[:4] / np.float32(255))
    q = autoencoder.encode(images)
    assert isinstance(q, Quantized)
    loss = VectorQuantized(reconstruction_weight=0.0, codebook_weight=0.7, commitment_weight=0.2)
    vectors = autoencoder.posterior._codebook
    bias = autoencoder.encoder.get_layer("embedding").bias
    with tf.GradientTape() as tape:
        total, terms = loss(autoencoder, Batch(images, None, noise(4), tf.constant(0.0)), training=False)
    by_vectors, by_bias = tape.gradient(total, [vectors, bias])
    difference = np.asarray(q.embedding) - np.asarray(q.nearest)
    squares = np.mean(np.sum(difference**2, axis=1))
    assert float(terms["quantization"]) == pytest.approx(squares, rel=1e-5)
    assert float(terms["kl"]) == pytest.approx(math.log(3))
    assert float(total) == pytest.approx(math.log(3) + (0.9 if update == "loss" else 0.2) * squares, rel=1e-5)
    np.testing.assert_allclose(by_bias, 0.2 * 2 * difference.mean(axis=0), rtol=1e-4)
    if update == "ema":
        assert by_vectors is None
        return
    expected = np.zeros((3, 2))
    np.add.at(expected, np.asarray(q.codes)[:, 0], -0.7 * 2 * difference / 4)
    np.testing.assert_allclose(tf.convert_to_tensor(by_vectors), expected, rtol=1e-4, atol=1e-7)


def fsq(levels: int | list[int], latent: int) -> FiniteScalarQuantizer:
    posterior = FiniteScalarQuantizer(levels)
    posterior.create_weights(IMAGE, (latent,), 0)
    return posterior


@pytest.mark.parametrize("levels", [2, 3, 5, 7, 8])
def test_finite_scalars_reach_every_level_and_no_other(levels: int) -> None:
    q = fsq(levels, 1).distribution({"embedding": tf.linspace([-9.0], [9.0], 10_001)})
    steps = np.arange(levels) - levels // 2
    np.testing.assert_allclose(np.unique(q.nearest), steps / (levels // 2))
    np.testing.assert_array_equal(np.unique(q.codes), np.arange(levels))
    nearest = q.nearest[5_000] if levels % 2 else None
    assert nearest is None or nearest == 0


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8])
def test_an_encoder_at_its_start_takes_more_than_one_level_and_has_a_gradient(levels: int) -> None:
    embedding = tf.constant(np.random.default_rng(0).normal(0, 1, (1000, 1)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(embedding)
        q = fsq(levels, 1).distribution({"embedding": embedding})
        total = tf.reduce_sum(q.mean)
    assert perplexity(np.bincount(np.asarray(q.codes)[:, 0]) / 1000) > 1.9
    assert np.median(tape.gradient(total, embedding)) > 0.2


def test_eight_levels_are_from_minus_one_to_three_quarters() -> None:
    posterior = fsq(8, 1)
    np.testing.assert_allclose(posterior.embed(tf.constant([[0], [7]])), [[-1], [0.75]])


def test_the_codes_of_finite_scalars_stand_for_all_combinations_of_their_levels() -> None:
    posterior = fsq([8, 5, 2], 3)
    assert posterior.codes == 80
    every = posterior.embed(tf.range(80)[:, tf.newaxis])
    assert len(np.unique(every, axis=0)) == 80
    # What makes each: the number that tanh takes to its level.
    z = tf.atanh((np.asarray(every) * [4, 2, 1] + [0.5, 0, 0.5]) / (np.array([7, 4, 1]) * 1.001 / 2))
    shift = np.array([np.arctanh(0.5 / (7 * 1.001 / 2)), 0, 0])
    q = posterior.distribution({"embedding": tf.cast(z - shift, tf.float32)})
    np.testing.assert_array_equal(q.codes[:, 0], np.arange(80))
    np.testing.assert_allclose(q.mean, every, atol=1e-6)


def test_the_gradient_of_finite_scalars_is_that_of_the_bound_without_the_rounding() -> None:
    posterior, value = fsq(5, 1), tf.constant([[0.3]])
    with tf.GradientTape() as tape:
        tape.watch(value)
        mean = posterior.distribution({"embedding": value}).mean
    half = 4 * 1.001 / 2
    expected = half * (1 - math.tanh(0.3) ** 2) / 2
    assert float(tape.gradient(mean, value)[0, 0]) == pytest.approx(expected, rel=1e-5)


LOGITS = tf.constant([[[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]]])


def test_categorical_draws_are_one_hots_with_the_frequencies_of_the_logits() -> None:
    many = Categorical(tf.repeat(LOGITS, 50_000, axis=0))
    draws = np.asarray(many.sample(noise(50_000)))
    assert set(np.unique(draws)) == {0, 1}
    np.testing.assert_array_equal(draws.reshape(-1, 2, 3).sum(axis=2), 1)
    np.testing.assert_allclose(draws.mean(axis=0), many.mean[0], atol=4 * 0.5 / 50_000**0.5)


def test_the_codes_of_a_draw_are_those_of_its_one_hots() -> None:
    many = Categorical(tf.repeat(LOGITS, 100, axis=0))
    one_hots = np.asarray(many.sample(noise(100))).reshape(100, 2, 3)
    np.testing.assert_array_equal(many.drawn_codes(noise(100)), one_hots.argmax(axis=2))


def test_categorical_probabilities_sum_to_one_and_the_divergence_is_that_of_all_values() -> None:
    q, p = Categorical(LOGITS), UniformCodes(2, 3, lambda codes: tf.reshape(tf.one_hot(codes, 3), [-1, 6]))
    every = tf.stack(tf.meshgrid(tf.range(3), tf.range(3), indexing="ij"), axis=-1)
    values = p.embed(tf.reshape(every, [-1, 2]))
    log_q = np.array([float(q.log_prob(value[tf.newaxis])[0]) for value in values])
    log_p = np.asarray(p.log_prob(values))
    assert np.exp(log_q).sum() == pytest.approx(1, rel=1e-6)
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-6)
    by_sum = np.sum(np.exp(log_q) * (log_q - log_p))
    assert float(kl_divergence(q, p, values[:1])[0]) == pytest.approx(by_sum, rel=1e-5)


def weighed(logits: NDArray[np.floating]) -> WeighedCodes:
    """Return codes with these logits `[positions, codes]`, which stand for their one-hots."""
    posterior = Gumbel(logits.shape[1], 1.0, 1.0, 0.0, straight_through=False)
    return WeighedCodes(tf.constant(logits, tf.float32), posterior.embed, posterior.one_hots)


WEIGHTS = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -2.0]])


def test_the_divergence_from_weighed_codes_is_that_of_all_values() -> None:
    q, p = Categorical(tf.concat([LOGITS, -2 * LOGITS], axis=0)), weighed(WEIGHTS)
    every = tf.reshape(tf.stack(tf.meshgrid(tf.range(3), tf.range(3), indexing="ij"), axis=-1), [-1, 2])
    log_p = np.asarray(p.log_prob(p.embed(every)))
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-6)
    log_q = np.asarray(tf.map_fn(lambda z: q.log_prob(z[tf.newaxis]), p.embed(every)))  # [values, images]
    by_sum = np.sum(np.exp(log_q) * (log_q - log_p[:, np.newaxis]), axis=0)
    relaxed = RelaxedCategorical(q.logits, tf.constant(0.5), straight_through=False)
    for of in (q, relaxed):
        np.testing.assert_allclose(kl_divergence(of, p, p.embed(every)), by_sum, rtol=1e-5)
    certain = Quantized(tf.zeros([9, 6]), p.embed(every), every)
    np.testing.assert_allclose(kl_divergence(certain, p, certain.nearest), -log_p, rtol=1e-5)
    np.testing.assert_allclose(p.mean[0], np.exp(log_p) @ np.asarray(p.embed(every)), rtol=1e-5)


def test_a_mean_of_relaxed_one_hots_has_the_mean_log_probability() -> None:
    p, parts = weighed(WEIGHTS), np.array([0.2, 0.3, 0.5])
    relaxed = np.concatenate([parts, [0.0, 1.0, 0.0]])[np.newaxis].astype(np.float32)
    log_p = np.asarray(tf.nn.log_softmax(WEIGHTS))
    assert float(p.log_prob(tf.constant(relaxed))[0]) == pytest.approx(parts @ log_p[0] + log_p[1, 1], rel=1e-5)


def test_vectors_of_a_codebook_have_the_log_probabilities_of_their_codes() -> None:
    posterior = codebook([[0, 0], [1, 1.5], [-2, 0]])
    p = WeighedCodes(tf.constant(WEIGHTS, tf.float32), posterior.embed, posterior.one_hots)
    log_p = np.asarray(tf.nn.log_softmax(WEIGHTS))
    z = posterior.embed(tf.constant([[2, 0], [1, 1]]))
    np.testing.assert_allclose(p.log_prob(z), [log_p[0, 2] + log_p[1, 0], log_p[0, 1] + log_p[1, 1]], rtol=1e-5)
    every = np.asarray(posterior.embed(tf.range(3)[:, tf.newaxis]))
    np.testing.assert_allclose(p.mean, (np.exp(log_p) @ every).reshape(1, 4), rtol=1e-5)


def test_weighed_codes_are_drawn_as_often_as_their_probabilities_say_and_never_beyond_the_last() -> None:
    count = 50_000
    p = weighed(np.concatenate([WEIGHTS, [[0.0, -200.0, 0.0]]]))
    draws = np.asarray(p.sample(noise(count))).reshape(-1, 3, 3)
    np.testing.assert_array_equal(draws.sum(axis=2), 1)
    expected = np.asarray(tf.nn.softmax(p.logits))
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=4 * 0.5 / count**0.5)
    assert not draws[:, 2, 1].any()
    codes = draws.argmax(axis=2)
    assert abs(np.corrcoef(codes.T)[0, 1]) < 0.02

    class Largest(NumpyNoise):
        def uniform(self, shape: Sequence[int]) -> tf.Tensor:
            return tf.fill([1, *shape], np.float32(1 - 2**-24))

    np.testing.assert_array_equal(
        weighed(np.zeros((1, 7))).sample(Largest(np.random.default_rng(0), 1)), [[0] * 6 + [1]]
    )


@pytest.mark.parametrize("method", ["gumbel_vae", "vq_vae"])
def test_learned_probabilities_begin_equal_and_compute_what_equal_ones_do(method: str) -> None:
    small = (f"method={method}", "latent=3", "model=mlp", "model.width=8")
    equal, learned = (built(*small, f"prior={prior}") for prior in ("categorical", "learned_categorical"))
    images = tf.constant(equal.dataset.train.images[:8] / np.float32(255))
    batch = [Batch(images, None, noise(8), tf.constant(0.0)) for _ in range(2)]
    losses = [of.loss(of.autoencoder, given, False) for of, given in zip((equal, learned), batch, strict=True)]
    assert float(losses[0][0]) == pytest.approx(float(losses[1][0]), rel=1e-6)
    assert float(losses[0][1]["kl"]) == pytest.approx(float(losses[1][1]["kl"]), rel=1e-6)
    priors = [of.autoencoder.latent_prior() for of in (equal, learned)]
    np.testing.assert_array_equal(*(p.sample(noise(500)) for p in priors))
    np.testing.assert_allclose(*(p.mean for p in priors), rtol=1e-5, atol=1e-6)
    z = priors[0].sample(noise(500))
    np.testing.assert_allclose(*(p.log_prob(z) for p in priors), rtol=1e-6)


@pytest.mark.parametrize("method", ["gumbel_vae", "vq_vae"])
def test_learned_probabilities_come_to_be_the_frequencies_of_the_codes_at_each_position(method: str) -> None:
    """Of the KL term alone, with the encoder as it is, they are what is trained."""
    keys = ("latent=3",) if method == "gumbel_vae" else ("latent=2", "posterior.codes=5", "posterior.update=ema")
    experiment = built(
        f"method={method}", "prior=learned_categorical", *keys, "model=conv", "model.latent=spatial", "model.depth=1",
        "model.downsamplings=1", "model.filters=4", network=(),
    )  # fmt: skip
    autoencoder, (logits,) = experiment.autoencoder, experiment.autoencoder.prior.trainable_variables
    assert logits.shape == ((48, 10) if method == "gumbel_vae" else (16, 5))
    images = tf.constant(experiment.dataset.train.images / np.float32(255))
    posterior = autoencoder.encode(images)
    if isinstance(posterior, Quantized):
        frequencies = tf.reduce_mean(tf.one_hot(posterior.codes, 5), axis=0)
    else:
        frequencies = tf.reduce_mean(tf.nn.softmax(posterior.logits), axis=0)
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([logits])

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            kl = tf.reduce_mean(kl_divergence(posterior, autoencoder.latent_prior(), posterior.mean))
        optimizer.apply([tape.gradient(kl, logits.value)], [logits])

    for _ in range(400):
        step()
    np.testing.assert_allclose(tf.nn.softmax(logits), frequencies, atol=0.01)


def test_the_loss_of_a_codebook_trains_learned_probabilities_and_not_the_encoder_by_them() -> None:
    experiment = built("method=vq_vae", "prior=learned_categorical", "latent=2", "posterior.codes=3")
    autoencoder = experiment.autoencoder
    images = tf.constant(experiment.dataset.train.images[:4] / np.float32(255))
    loss = VectorQuantized(reconstruction_weight=0.0, commitment_weight=0.0)
    (logits,), bias = autoencoder.prior.trainable_variables, autoencoder.encoder.get_layer("embedding").bias
    with tf.GradientTape() as tape:
        total, terms = loss(autoencoder, Batch(images, None, noise(4), tf.constant(0.0)), training=False)
    by_logits, by_bias = tape.gradient(total, [logits, bias])
    q = autoencoder.encode(images)
    assert isinstance(q, Quantized)
    counts = np.bincount(np.asarray(q.codes)[:, 0], minlength=3)
    np.testing.assert_allclose(by_logits, [1 / 3 - counts / 4], atol=1e-6)
    np.testing.assert_allclose(0.0 if by_bias is None else by_bias, 0.0)
    assert float(total) == pytest.approx(float(terms["kl"]))


@pytest.mark.parametrize("straight_through", [False, True])
def test_relaxed_draws_have_the_gradient_of_the_softmax(straight_through: bool) -> None:
    temperature, logits = tf.constant(0.7), LOGITS
    weights = tf.constant([[1.0, -2.0, 3.0, 0.5, 1.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        z = RelaxedCategorical(logits, temperature, straight_through).sample(noise(1))
        total = tf.reduce_sum(weights * z)
    uniform = np.random.default_rng(0).random((1, 2, 3))
    soft = np.asarray(tf.nn.softmax((LOGITS - np.log(-np.log(uniform))) / 0.7))
    w = np.asarray(weights).reshape(1, 2, 3)
    expected = soft * (w - (w * soft).sum(axis=2, keepdims=True)) / 0.7
    np.testing.assert_allclose(tape.gradient(total, logits), expected, rtol=1e-4, atol=1e-6)
    value = np.asarray(z).reshape(1, 2, 3)
    np.testing.assert_allclose(value, np.eye(3)[soft.argmax(axis=2)] if straight_through else soft, atol=1e-5)


@pytest.mark.parametrize(("epoch", "temperature"), [(0, 2.0), (5, 1.0), (10, 0.5), (30, 0.5), (math.inf, 0.5)])
def test_the_temperature_falls_by_the_same_factor_in_equal_times_and_draws_are_hard_after_training(
    epoch: float, temperature: float
) -> None:
    posterior = Gumbel(3, 2.0, 0.5, 10.0, straight_through=False)
    q = posterior.distribution({"logits": LOGITS})
    assert type(q) is Categorical
    relaxed = posterior.fitted(q, noise(1), tf.constant(float(epoch)), tf.identity)
    assert isinstance(relaxed, RelaxedCategorical)
    assert float(relaxed.temperature) == pytest.approx(temperature)


def test_uniform_codes_are_drawn_equally_often_and_have_the_entropy_of_that() -> None:
    p = UniformCodes(2, 4, lambda codes: tf.cast(codes, tf.float32))
    draws = np.asarray(p.sample(noise(40_000))).astype(int)
    for position in range(2):
        np.testing.assert_allclose(np.bincount(draws[:, position], minlength=4) / 40_000, 0.25, atol=0.01)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.02
    assert float(p.entropy()[0]) == pytest.approx(2 * math.log(4))
    np.testing.assert_allclose(p.mean, [[1.5, 1.5]])
    largest: Callable[[tuple[int, ...]], tf.Tensor] = lambda shape: tf.fill([1, *shape], 1 - 2.0**-24)  # noqa: E731
    edge = type("Edge", (), {"uniform": staticmethod(largest)})()
    assert int(UniformCodes(1, 100_000_000, lambda codes: codes).sample(edge)[0, 0]) < 100_000_000


def test_perplexity_is_the_number_of_codes_that_are_equally_frequent() -> None:
    assert perplexity(np.array([0.25, 0.25, 0.5, 0.0])) == pytest.approx(2**1.5)
    assert perplexity(np.full(7, 1 / 7)) == pytest.approx(7)


def test_perplexity_and_usage_are_of_all_test_images_and_not_means_over_batches() -> None:
    experiment = built("method=gumbel_vae", "latent=4", "posterior.categories=5")
    metrics = experiment.trainer.run_epoch(lambda progress: None).metrics
    autoencoder = experiment.autoencoder
    frequencies = code_frequencies(autoencoder, posterior_of(autoencoder, experiment.dataset.test.images))
    assert frequencies is not None
    assert metrics["test/perplexity"] == pytest.approx(perplexity(frequencies), rel=1e-4)
    assert metrics["test/usage"] == pytest.approx(np.mean(frequencies > 0))
    assert "train/perplexity" not in metrics
