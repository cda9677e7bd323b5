"""Objectives on a linear-Gaussian model, in which log p(x) and the best posterior are known."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.losses.linear_gaussian import SIDE, LinearGaussian, batch, value
from vae_runner.distributions.codes import UniformCodes
from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.losses.base import AUTOENCODER, Batch, Loss
from vae_runner.losses.disentangled_prior import DisentangledPrior
from vae_runner.losses.elbo import Elbo
from vae_runner.losses.importance_weighted import ImportanceWeighted, importance_weights
from vae_runner.losses.mean_discrepancy import MeanDiscrepancy, mean_squared_distance, squared_mmd
from vae_runner.losses.regularized import Regularized
from vae_runner.losses.renyi import Renyi
from vae_runner.losses.total_correlation import TotalCorrelation
from vae_runner.posteriors.fsq import FiniteScalarQuantizer
from vae_runner.posteriors.gumbel import Gumbel
from vae_runner.posteriors.real_nvp import RealNvp
from vae_runner.training.noise import GivenNoise, NumpyNoise

IMAGES = 2000


@pytest.fixture(scope="module")
def near() -> LinearGaussian:
    """A model whose posterior is off."""
    return LinearGaussian.make(IMAGES)


@pytest.fixture(scope="module")
def exact() -> LinearGaussian:
    """A model whose posterior is right."""
    return LinearGaussian.make(IMAGES, exact=True)


BOUNDS = [
    Elbo(), ImportanceWeighted(samples=1), ImportanceWeighted(samples=10), ImportanceWeighted(samples=4, groups=3),
    ImportanceWeighted(samples=10, elbo_weight=0.5), ImportanceWeighted(samples=10, gradient="dreg"),
    ImportanceWeighted(samples=10, gradient="stl"), Renyi(alpha=0.5), Renyi(alpha=0), Renyi(alpha=1), Renyi(alpha=-2),
    TotalCorrelation(total_correlation_weight=1),
]  # fmt: skip


@pytest.mark.parametrize("loss", BOUNDS, ids=str)
def test_with_the_exact_posterior_every_bound_is_log_p(loss: Loss, exact: LinearGaussian) -> None:
    # Only the KL term in closed form leaves an error, of what the draws' reconstruction terms are off.
    tolerance = 0.1 if isinstance(loss, Elbo) else 2e-3
    assert -value(loss, exact) == pytest.approx(exact.log_p.mean(), abs=tolerance)


def test_bounds_are_ordered_elbo_then_more_draws_then_log_p(near: LinearGaussian) -> None:
    log_p = near.log_p.mean()
    elbo = -value(Elbo(), near)
    bounds = [-value(ImportanceWeighted(samples=samples), near) for samples in (2, 10, 100)]
    assert elbo < bounds[0] < bounds[1] < bounds[2] < log_p
    assert bounds[2] == pytest.approx(log_p, abs=0.02)
    renyi = [-value(Renyi(samples=10, alpha=alpha), near) for alpha in (1, 0.5, 0)]
    assert renyi[0] < renyi[1] < renyi[2] < log_p
    mixed = -value(ImportanceWeighted(samples=10, elbo_weight=0.5), near)
    assert elbo < mixed < bounds[1]


def test_one_draw_is_the_elbo_and_alpha_its_ends(near: LinearGaussian) -> None:
    iwae = value(ImportanceWeighted(samples=10), near)
    assert value(Renyi(samples=10, alpha=0), near) == pytest.approx(iwae, abs=1e-4)
    assert value(Renyi(samples=10, alpha=1), near) == pytest.approx(
        value(ImportanceWeighted(samples=10, elbo_weight=1), near), abs=1e-4
    )
    assert value(ImportanceWeighted(samples=1), near) == pytest.approx(value(Elbo(), near), abs=0.1)


def test_groups_are_a_mean_of_bounds_and_not_a_bound_of_all_draws(near: LinearGaussian) -> None:
    """Public code has swapped the axes of draws and groups, unseen where both have the same length."""
    weights = importance_weights(near.autoencoder, batch(near.images), 12, training=False)
    log_w = weights.log_w.numpy().reshape(-1, 3, 4).astype(np.float64)
    by_hand = np.mean(np.log(np.mean(np.exp(log_w), axis=2)))
    assert -value(ImportanceWeighted(samples=4, groups=3), near) == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("gradient", ["iwae", "dreg", "stl"])
def test_what_is_printed_is_the_bound_whatever_its_gradient(gradient: str, near: LinearGaussian) -> None:
    """The surrogate whose gradient is right has a value that is too good, which public code prints."""
    iwae = value(ImportanceWeighted(samples=5), near)
    assert value(ImportanceWeighted(samples=5, gradient=gradient), near) == pytest.approx(iwae, abs=1e-4)


def for_each(compute: Callable[[Any], Any], values: Any, dtypes: Any) -> Any:
    """What is computed for each of so many values, stacked; a graph counts faster than Python."""
    given = tf.nest.map_structure(lambda value: tf.constant(value, tf.float32), values)
    return tf.function(lambda: tf.map_fn(compute, given, fn_output_signature=dtypes))()


def gradients(loss: Loss, model: LinearGaussian, seeds: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means and standard errors over seeds of the gradient for each variable of both networks."""
    variables = [variable.value for variable in model.autoencoder.trainable_variables]

    def gradient(normal: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(variables)
            given = Batch(tf.constant(model.images), None, GivenNoise([normal]), tf.constant(np.inf, tf.float32))
            result = loss(model.autoencoder, given, training=True)[0]
        return tape.gradient(result, variables)

    samples = getattr(loss, "samples", None)
    shape = [len(model.images), *([] if samples is None else [samples * getattr(loss, "groups", 1)]), 2]
    drawn = for_each(gradient, np.random.default_rng(0).normal(size=(seeds, *shape)), [tf.float32] * len(variables))
    columns = [np.asarray(column, np.float64) for column in drawn]
    return [column.mean(0) for column in columns], [column.std(0) / math.sqrt(seeds) for column in columns]


@pytest.mark.parametrize("elbo_weight", [0.0, 0.3])
def test_dreg_has_the_bounds_gradient_in_the_mean_and_less_noise_in_the_encoder(elbo_weight: float) -> None:
    model = LinearGaussian.make(4)
    keys = {"samples": 8, "elbo_weight": elbo_weight}
    plain, error = gradients(ImportanceWeighted(**keys), model, 3000)
    dreg, dreg_error = gradients(ImportanceWeighted(**keys, gradient="dreg"), model, 3000)
    for a, b, error_a, error_b in zip(plain, dreg, error, dreg_error, strict=True):
        assert (np.abs(a - b) <= 5 * np.hypot(error_a, error_b) + 1e-6).all()
    encoder = len(model.autoencoder.encoder.trainable_variables)
    assert sum(e.sum() for e in dreg_error[:encoder]) < 0.8 * sum(e.sum() for e in error[:encoder])


def test_piwaes_encoder_has_miwaes_gradient_and_its_decoder_that_of_the_bound_of_all_draws() -> None:
    """As in Rainforth et al. (2018): the gradient of the decoder's bound is not added to the encoder's."""
    model = LinearGaussian.make(50)
    loss = ImportanceWeighted(samples=4, groups=3, partial=True)
    players = loss.players(model.autoencoder)
    by_player = {AUTOENCODER: ImportanceWeighted(samples=4, groups=3), "decoder": ImportanceWeighted(samples=12)}
    assert [v for own in players.values() for v in own] == model.autoencoder.trainable_variables
    for name, variables in players.items():
        values = [variable.value for variable in variables]
        both = []
        for objective in (loss, by_player[name]):
            with tf.GradientTape() as tape:
                tape.watch(values)
                minimised = objective(model.autoencoder, batch(model.images), training=True)[0]
                minimised = minimised[name] if isinstance(minimised, dict) else minimised
            both.append(tape.gradient(minimised, values))
        for ours, theirs in zip(*both, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    minimised = loss(model.autoencoder, batch(model.images), training=False)[0]
    assert isinstance(minimised, dict)
    assert float(minimised[AUTOENCODER]) > float(minimised["decoder"])  # All draws are a tighter bound.


def test_stl_has_the_elbos_gradient_in_the_mean_and_no_noise_at_the_exact_posterior() -> None:
    model = LinearGaussian.make(4)
    plain, error = gradients(ImportanceWeighted(samples=1), model, 3000)
    stl, stl_error = gradients(ImportanceWeighted(samples=1, gradient="stl"), model, 3000)
    for a, b, error_a, error_b in zip(plain, stl, error, stl_error, strict=True):
        assert (np.abs(a - b) <= 5 * np.hypot(error_a, error_b) + 1e-6).all()
    right = LinearGaussian.make(4, exact=True)
    mean, noise = gradients(ImportanceWeighted(samples=1, gradient="stl"), right, 20)
    for column, spread in list(zip(mean, noise, strict=True))[: len(right.autoencoder.encoder.trainable_variables)]:
        np.testing.assert_allclose(column, 0, atol=2e-5)
        np.testing.assert_allclose(spread, 0, atol=2e-5)


def with_couplings(model: LinearGaussian) -> LinearGaussian:
    """The model, its posterior a flow whose networks are weights of the posterior itself."""
    width, rng = 3, np.random.default_rng(0)
    posterior = RealNvp(steps=2, width=width)
    posterior.create_weights((SIDE, SIDE, 1), (2,), 0)
    for variable in posterior.trainable_variables:
        variable.assign(rng.normal(0, 0.4, variable.shape))
    heads = model.autoencoder.encoder.output
    context = keras.layers.Dense(width, name="context")(model.autoencoder.encoder.layers[1].output)
    outputs = {"base_mean": heads["mean"], "base_log_var": heads["log_var"], "context": context}
    encoder = keras.Model(model.autoencoder.encoder.input, outputs)
    return replace(model, autoencoder=replace(model.autoencoder, encoder=encoder, posterior=posterior))


@pytest.mark.parametrize(("gradient", "samples"), [("dreg", 8), pytest.param("stl", 1, marks=pytest.mark.slow)])
def test_with_a_flow_whose_weights_are_the_posteriors_own_the_mean_gradient_is_the_bounds_too(
    gradient: str, samples: int
) -> None:
    model = with_couplings(LinearGaussian.make(4))
    plain, error = gradients(ImportanceWeighted(samples), model, 1000)
    other, other_error = gradients(ImportanceWeighted(samples, gradient=gradient), model, 1000)
    assert len(plain) > len(model.autoencoder.encoder.trainable_variables) + 2  # the flow's are among them
    for a, b, error_a, error_b in zip(plain, other, error, other_error, strict=True):
        assert (np.abs(a - b) <= 5 * np.hypot(error_a, error_b) + 1e-6).all()


def test_with_a_flow_bounds_are_ordered_too() -> None:
    model = with_couplings(LinearGaussian.make(IMAGES))
    elbo, iwae = -value(Elbo(), model), -value(ImportanceWeighted(samples=50), model)
    assert elbo < iwae < model.log_p.mean()


# --- β-TCVAE ---------------------------------------------------------------------------------------------------------


def exact_parts(model: LinearGaussian, seed: int) -> dict[str, float]:
    """Mutual information and total correlation, with q(z) the mean of the posteriors of all images."""
    parameters = {name: values.astype(np.float64) for name, values in model.parameters().items()}
    deviation = np.exp(parameters["log_var"] / 2)
    noise = NumpyNoise(np.random.default_rng(seed), len(model.images)).normal([2]).numpy()
    z = parameters["mean"] + deviation * noise
    log_density = -0.5 * (
        math.log(2 * math.pi) + parameters["log_var"] + ((z[:, None] - parameters["mean"]) / deviation) ** 2
    )
    log_q = np.log(np.mean(np.exp(log_density.sum(2)), axis=1))
    log_product = np.log(np.mean(np.exp(log_density), axis=1)).sum(1)
    own = np.diagonal(log_density.sum(2))
    return {
        "mutual_information": float((own - log_q).mean()), "total_correlation": float((log_q - log_product).mean()),
    }  # fmt: skip


def test_of_the_whole_split_both_parts_are_exact_and_the_three_add_up_to_the_kl() -> None:
    model = LinearGaussian.make(200)
    loss, terms = TotalCorrelation()(model.autoencoder, batch(model.images), training=False)
    for name, expected in exact_parts(model, 0).items():
        assert float(terms[name]) == pytest.approx(expected, abs=1e-3)
    parts = sum(float(terms[name]) for name in ("mutual_information", "total_correlation", "dimension_kl"))
    assert parts == pytest.approx(float(terms["kl"]), abs=1e-4)
    assert float(terms["total_correlation"]) >= 0
    assert float(loss) == pytest.approx(
        float(terms["reconstruction"]) + float(terms["kl"]) + 5 * float(terms["total_correlation"]), abs=1e-3
    )


def estimates(estimator: str, batches: int = 400, size: int = 20) -> tuple[dict[str, float], LinearGaussian]:
    """Means over batches of what the estimator makes of a model of 200 images."""
    model = LinearGaussian.make(200)
    loss = TotalCorrelation(estimator=estimator)
    rng = np.random.default_rng(1)
    images = np.stack([model.images[rng.choice(200, size, replace=False)] for _ in range(batches)])

    def terms(given: tuple[tf.Tensor, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        chosen, normal = given
        of_200 = Batch(chosen, None, GivenNoise([normal]), tf.constant(np.inf, tf.float32), split_size=200)
        return loss(model.autoencoder, of_200, training=False)[1]

    found = for_each(terms, (images, rng.normal(size=(batches, size, 2))), dict.fromkeys(loss.terms, tf.float32))
    return {name: float(np.mean(values)) for name, values in found.items()}, model


def test_the_stratified_estimate_is_near_what_all_images_say_and_mutual_information_below_log_n() -> None:
    """Weights on columns in place of the diagonal, or added for each dimension, read far off."""
    means, model = estimates("stratified")
    exact = exact_parts(model, 0)
    assert 0 <= means["mutual_information"] <= math.log(200)
    assert means["mutual_information"] == pytest.approx(exact["mutual_information"], abs=0.5)
    assert means["total_correlation"] == pytest.approx(exact["total_correlation"], abs=0.25)


def test_the_stratified_weights_make_the_mean_of_q_of_z_right() -> None:
    """E over batches of the estimated q(z) is q(z): the weights are 1/N for an image's own posterior."""
    model = LinearGaussian.make(30)
    loss = TotalCorrelation()
    parameters = model.parameters()
    q = model.autoencoder.posterior.distribution({n: tf.constant(v) for n, v in parameters.items()})
    z = q.sample(NumpyNoise(np.random.default_rng(0), 30)).numpy()
    deviation = np.exp(parameters["log_var"][None] / 2)
    density = np.exp(-0.5 * ((z[:, None] - parameters["mean"]) / deviation) ** 2).prod(2) / (
        2 * math.pi * deviation.prod(2)
    )
    exact = density.mean(1)
    sums, counts = np.zeros(30), np.zeros(30)
    given_sizes = batch(model.images[:5], split_size=30)  # of which the estimate takes the sizes alone

    def estimated(given: tuple[Mapping[str, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        part, z_of_it = given
        posterior = model.autoencoder.posterior.distribution(part)
        return loss.aggregated_log_probs(posterior, z_of_it, given_sizes)[0]

    rng = np.random.default_rng(1)
    chosen = np.stack([rng.choice(30, 5, replace=False) for _ in range(4000)])
    parts = {name: values[chosen] for name, values in parameters.items()}
    np.add.at(sums, chosen, np.exp(for_each(estimated, (parts, z[chosen]), tf.float32)))
    np.add.at(counts, chosen, 1)
    np.testing.assert_allclose(sums / counts, exact, rtol=0.15)


def test_the_weighted_estimate_is_the_papers_with_its_constants() -> None:
    means, _ = estimates("weighted", batches=50)
    assert means["mutual_information"] <= math.log(200 * 20)
    stratified, _ = estimates("stratified", batches=50)
    assert means["mutual_information"] > stratified["mutual_information"] + 1
    parts = means["mutual_information"] + means["total_correlation"] + means["dimension_kl"]
    assert parts == pytest.approx(means["kl"], abs=1e-3)


# --- moments and kernels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_the_covariance_penalty_is_numpys(kind: str, near: LinearGaussian) -> None:
    """It is over images and not dimensions, divided by their number, with variances on the diagonal alone."""
    loss = DisentangledPrior(kind=kind, off_diagonal_weight=3, diagonal_weight=7)
    _, terms = loss(near.autoencoder, batch(near.images), training=False)
    parameters = near.parameters()
    covariance = np.cov(parameters["mean"].T.astype(np.float64), bias=True)
    if kind == "ii":
        covariance += np.diag(np.exp(parameters["log_var"]).mean(0))
    expected = 2 * 3 * covariance[0, 1] ** 2 + 7 * ((np.diag(covariance) - 1) ** 2).sum()
    assert float(terms["covariance"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_a_squared_mmd_is_summed_over_pairs_by_hand(kernel: str) -> None:
    """All pairs between the samples count, none of a draw with itself within one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(0.5, 1, (7, 3))

    def kernels(a: np.ndarray, b: np.ndarray) -> float:
        squared = ((a - b) ** 2).sum()
        scales = [2 * 3 * scale for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return sum(c / (c + squared) if kernel == "imq" else math.exp(-squared / c) for c in scales)

    different = [(i, j) for i in range(7) for j in range(7) if i != j]
    within = sum(kernels(x[i], x[j]) + kernels(y[i], y[j]) for i, j in different) / 42
    between = sum(kernels(a, b) for a in x for b in y) / 49
    ours = squared_mmd(tf.constant(x, tf.float32), tf.constant(y, tf.float32), kernel, 2 * 3)
    assert float(ours) == pytest.approx(within - 2 * between, rel=1e-4)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_a_squared_mmd_of_equal_distributions_is_zero_in_the_mean_and_may_be_negative(kernel: str) -> None:
    rng = np.random.default_rng(0)
    values = [
        float(squared_mmd(*(tf.constant(rng.normal(size=(50, 4)), tf.float32) for _ in range(2)), kernel, 8))
        for _ in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(200)
    assert min(values) < 0
    apart = squared_mmd(
        tf.constant(rng.normal(size=(50, 4)), tf.float32), tf.constant(rng.normal(1, 1, (50, 4)), tf.float32), kernel, 8
    )
    assert float(apart) > 10 * np.std(values)


def test_an_mmd_of_one_image_is_zero_and_so_is_its_total_correlation(near: LinearGaussian) -> None:
    """The last batch of a split may have one."""
    loss, terms = MeanDiscrepancy()(near.autoencoder, batch(near.images[:1]), training=False)
    assert float(loss) == float(terms["reconstruction"])  # of one code and one draw there is no unbiased estimate
    _, terms = TotalCorrelation()(near.autoencoder, batch(near.images[:1], split_size=9), training=False)
    assert float(terms["total_correlation"]) == pytest.approx(0, abs=1e-5)  # of independent dimensions
    assert float(terms["mutual_information"]) == pytest.approx(0, abs=1e-5)  # z can be of no other image


@pytest.mark.parametrize("coordinates", [3, 200])
def test_on_a_sphere_the_kernels_tell_one_direction_from_all_in_any_number_of_dimensions(coordinates: int) -> None:
    prior = UniformOnSphere(coordinates)
    x, y = (prior.sample(NumpyNoise(np.random.default_rng(seed), 200)) for seed in range(2))
    distance = mean_squared_distance(prior, coordinates)
    assert abs(float(squared_mmd(x, y, "imq", distance))) < 0.1
    assert float(squared_mmd(tf.math.l2_normalize(x + 1.0, axis=1), y, "imq", distance)) > 0.5


@pytest.mark.parametrize("levels", [(), (8, 3)])
def test_the_kernels_of_codes_are_as_wide_as_the_mean_squared_distance_of_two_draws(levels: tuple[int, ...]) -> None:
    posterior = FiniteScalarQuantizer(levels) if levels else Gumbel(10, 1.0, 1.0, 0.0, straight_through=False)
    posterior.create_weights((8, 8, 1), (2, 2, 2), 0)
    prior = UniformCodes(20, posterior.codes, posterior.embed)
    x, y = (prior.sample(NumpyNoise(np.random.default_rng(seed), 5000)) for seed in range(2))
    mean = float(tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(x, y), axis=1)))
    distance = float(mean_squared_distance(prior, x.shape[1]))
    assert distance == pytest.approx(mean, rel=0.01)
    assert levels or distance == pytest.approx(36)  # 20 pairs of one-hots, of which 9 of 10 differ in 2 places


def test_an_infovaes_kl_has_its_weight(near: LinearGaussian) -> None:
    without = value(MeanDiscrepancy(), near)
    _, terms = Elbo()(near.autoencoder, batch(near.images), training=False)
    loss = MeanDiscrepancy(kl_weight=0.5)
    assert value(loss, near) == pytest.approx(without + 0.5 * float(terms["kl"]), rel=1e-4)
    reported = loss(near.autoencoder, batch(near.images), training=False)[1]
    assert tuple(reported) == loss.terms == ("reconstruction", "kl", "mmd")
    assert float(reported["kl"]) == pytest.approx(float(terms["kl"]), rel=1e-5)


def test_the_gradient_penalty_is_the_jacobians_norm_in_the_mean(near: LinearGaussian) -> None:
    weights = near.autoencoder.decoder.get_layer("linear").get_weights()[0].astype(np.float64)
    loss = Regularized(gradient_penalty=2.0)
    penalties = [float(loss(near.autoencoder, batch(near.images, seed), True)[1]["penalty"]) for seed in range(5)]
    assert np.mean(penalties) == pytest.approx(2 * (weights**2).sum(), rel=0.03)


def test_the_decay_is_of_the_decoders_kernels_and_the_embedding_of_the_codes(near: LinearGaussian) -> None:
    weights = near.autoencoder.decoder.get_layer("linear").get_weights()[0].astype(np.float64)
    _, terms = Regularized(weight_decay=3.0)(near.autoencoder, batch(near.images), training=True)
    assert float(terms["penalty"]) == pytest.approx(1.5 * (weights**2).sum(), rel=1e-5)
    expected = 0.5 * (near.parameters()["mean"].astype(np.float64) ** 2).sum(1).mean()
    assert float(terms["embedding"]) == pytest.approx(expected, rel=1e-4)


# --- the ELBO's keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0, 0), (1, 0.5), (2, 1), (3, 1), (4, 0), (5, 0.5), (7.9, 1), (np.inf, 1)]
)
def test_a_cyclical_warmup_begins_again(epoch: float, weight: float) -> None:
    loss = Elbo(kl_warmup_epochs=2, kl_cycle_epochs=4)
    assert float(loss.kl_weight_at(tf.constant(epoch, tf.float32))) == pytest.approx(weight, abs=1e-6)


def test_free_bits_count_no_dimension_for_less_than_they_say_and_leave_the_kl_as_it_is(near: LinearGaussian) -> None:
    """The maximum is taken of a dimension's mean over the batch, and the term that is shown is the KL."""
    parameters = {name: values.astype(np.float64) for name, values in near.parameters().items()}
    kl = -0.5 * (1 + parameters["log_var"] - parameters["mean"] ** 2 - np.exp(parameters["log_var"]))
    by_dimension = kl.mean(0)
    bits = float(by_dimension.mean())  # between the two
    loss, terms = Elbo(free_bits=bits)(near.autoencoder, batch(near.images), training=True)
    assert float(terms["kl"]) == pytest.approx(by_dimension.sum(), rel=1e-4)
    counted = np.maximum(by_dimension, bits).sum()
    assert float(loss) == pytest.approx(float(terms["reconstruction"]) + counted, rel=1e-4)


@pytest.mark.parametrize(("epoch", "capacity"), [(0, 0), (1, 2.5), (2, 5), (np.inf, 5)])
def test_a_capacity_grows_and_is_the_distance_of_the_batchs_mean(
    epoch: float, capacity: float, near: LinearGaussian
) -> None:
    loss, terms = Elbo(kl_weight=10, kl_capacity=5, kl_capacity_epochs=2)(
        near.autoencoder, batch(near.images, epoch=epoch), training=True
    )
    expected = float(terms["reconstruction"]) + 10 * abs(float(terms["kl"]) - capacity)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("elbo_weight", [0.0, 0.5])
def test_dregs_gradient_is_finite_where_a_draws_weight_underflows(elbo_weight: float) -> None:
    model = LinearGaussian.make(4)
    model.autoencoder.decoder.get_layer("linear").kernel.assign(
        1e3 * model.autoencoder.decoder.get_layer("linear").kernel
    )
    loss = ImportanceWeighted(samples=5, elbo_weight=elbo_weight, gradient="dreg")
    for column in gradients(loss, model, 3)[0]:
        assert np.isfinite(column).all()
