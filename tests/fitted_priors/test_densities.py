import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numpy.typing import NDArray

from vae_runner.errors import UserError
from vae_runner.fitted_priors.base import FittedPrior, Latents, Space
from vae_runner.fitted_priors.flow import FittedFlow
from vae_runner.fitted_priors.mixture import FittedMixture
from vae_runner.training.noise import NumpyNoise

PLANE = Space((2,))
SCALE = np.float32([3, 0.01])  # of the bent latents' two dimensions
SHIFT = np.float32([-5, 2])


def bent(number: int, seed: int) -> Latents:
    """Draws of b = a² + ε / 2 and a, far from Gaussian, scaled and shifted."""
    a, noise = np.random.default_rng(seed).standard_normal((2, number)).astype(np.float32)
    return np.stack([a, a**2 + noise / 2], axis=1) * SCALE + SHIFT


def bent_log_prob(latents: Latents) -> NDArray[np.float64]:
    a, b = ((latents - SHIFT) / SCALE).astype(np.float64).T
    return -(a**2) / 2 - 2 * (b - a**2) ** 2 + np.log(2) - np.log(2 * np.pi) - np.log(SCALE).sum()


def score(density: FittedPrior, latents: Latents) -> float:
    return float(tf.reduce_mean(density.distribution.log_prob(tf.constant(latents))))


@pytest.fixture(scope="module", params=[FittedMixture, FittedFlow])
def density(request: pytest.FixtureRequest) -> FittedPrior:
    fitted: FittedPrior = request.param.fit(PLANE, bent(2000, 0), bent(200, 1), lambda done: None)
    return fitted


def test_a_fitted_density_is_nearly_as_good_on_other_latents_as_the_true_one(density: FittedPrior) -> None:
    others = bent(5000, 2)
    gaussian = FittedMixture.fit(PLANE, bent(2000, 0), others[:9], lambda done: None, components=1)
    assert score(gaussian, others) < bent_log_prob(others).mean() - 0.4
    assert score(density, others) == pytest.approx(bent_log_prob(others).mean(), abs=0.12)


def test_a_fitted_density_integrates_to_1_over_latents_of_any_scale(density: FittedPrior) -> None:
    a, b = (np.linspace(low, high, 400) for low, high in ((-6, 6), (-4, 30)))
    grid = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2).astype(np.float32) * SCALE + SHIFT
    cell = (a[1] - a[0]) * (b[1] - b[0]) * SCALE.prod()
    mass = np.exp(density.distribution.log_prob(tf.constant(grid)).numpy()).sum() * cell
    assert mass == pytest.approx(1, abs=0.01)


def test_samples_are_draws_of_the_fitted_density(density: FittedPrior) -> None:
    draws = density.distribution.sample(NumpyNoise(np.random.default_rng(0), 20_000)).numpy()
    # Its own log-density averages to minus its entropy, which importance weights from the true density tell too.
    others = bent(20_000, 3)
    log_probs = density.distribution.log_prob(tf.constant(others)).numpy()
    weights = np.exp(log_probs - bent_log_prob(others))
    assert score(density, draws) == pytest.approx(np.average(log_probs, weights=weights), abs=0.1)
    np.testing.assert_allclose(draws.mean(axis=0), bent(20_000, 4).mean(axis=0), atol=0.1 * SCALE.max())
    assert len(np.unique(draws, axis=0)) == len(draws)


def test_a_density_is_the_same_after_it_is_kept(density: FittedPrior) -> None:
    again = type(density).from_arrays(PLANE, dict(density.arrays))
    latents = tf.constant(bent(50, 5))
    np.testing.assert_array_equal(again.distribution.log_prob(latents), density.distribution.log_prob(latents))
    assert again.symbol == density.symbol


@pytest.mark.parametrize("change", ["shape", "not finite", "missing", "dtype", "latent"])
def test_arrays_of_something_else_are_refused(density: FittedPrior, change: str) -> None:
    arrays = dict(density.arrays)
    name = sorted(arrays)[-1]
    changed = {
        "shape": {name: arrays[name][:-1]}, "not finite": {name: arrays[name] * np.float32(np.nan)},
        "dtype": {name: arrays[name].astype(np.float64)},
    }  # fmt: skip
    arrays |= changed.get(change, {})
    if change == "missing":
        del arrays[name]
    with pytest.raises(ValueError, match=r"it has|is not of"):
        type(density).from_arrays(Space((3,)) if change == "latent" else PLANE, arrays)


def test_a_mixture_of_full_gaussians_is_that_of_tensorflow_probability() -> None:
    rng = np.random.default_rng(0)
    weights, means = np.float32([0.2, 0.5, 0.3]), rng.normal(size=(3, 2)).astype(np.float32)
    scales = np.tril(rng.normal(size=(3, 2, 2))).astype(np.float32) + 2 * np.eye(2, dtype=np.float32)
    ours = FittedMixture(weights, means, scales).distribution
    tfd = tfp.distributions
    theirs = tfd.MixtureSameFamily(tfd.Categorical(probs=weights), tfd.MultivariateNormalTriL(means, scales))
    values = rng.normal(size=(50, 2)).astype(np.float32) * 3
    np.testing.assert_allclose(ours.log_prob(tf.constant(values)), theirs.log_prob(values), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.mean[0], theirs.mean(), rtol=1e-5)
    draws = ours.sample(NumpyNoise(rng, 200_000)).numpy()
    np.testing.assert_allclose(draws.mean(axis=0), theirs.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), theirs.covariance(), rtol=0.03, atol=0.03)


def test_a_mixture_has_the_number_of_components_that_fits_held_out_latents_best() -> None:
    rng = np.random.default_rng(0)
    latents = np.concatenate([rng.normal(m, 0.1, (200, 2)) for m in (-2, 2)]).astype(np.float32)
    rng.shuffle(latents)
    done: list[float] = []
    mixture = FittedMixture.fit(PLANE, latents[40:], latents[:40], done.append)
    assert len(mixture.weights) == 2
    assert done == sorted(done)
    assert done[-1] == 1
    assert len(FittedMixture.fit(PLANE, latents[40:], latents[:40], done.append, components=3).weights) == 3


def test_a_dimension_in_which_all_latents_are_the_same_is_fitted() -> None:
    latents = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    latents[:, 1] = 7
    for family in (FittedMixture, FittedFlow):
        density: FittedPrior = family.fit(Space((3,)), latents[10:], latents[:10], lambda done: None)
        draws = density.distribution.sample(NumpyNoise(np.random.default_rng(0), 100)).numpy()
        np.testing.assert_allclose(draws[:, 1], 7, atol=1e-4)
        assert draws[:, 0].std() > 0.5


def test_a_flow_that_would_learn_its_few_latents_by_heart_stops_while_held_out_ones_become_more_likely() -> None:
    rng = np.random.default_rng(0)
    few, held_out = (rng.normal(size=(count, 8)).astype(np.float32) for count in (20, 200))
    done: list[float] = []
    flow = FittedFlow.fit(Space((8,)), few, held_out, done.append)
    untrained = FittedMixture.fit(Space((8,)), few, held_out, lambda done: None, components=1)
    assert score(flow, held_out) > score(untrained, held_out)
    assert len(done) < 50
    assert done[-1] == 1


@pytest.mark.parametrize(
    ("family", "components", "latent", "message"),
    [(FittedMixture, 30, 2, "--components 30 are more than there are embeddings to fit, 20"),
     (FittedFlow, 0, 1, "this run has one: choose --prior mixture")],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(
    family: type[FittedPrior], components: int, latent: int, message: str
) -> None:
    latents = np.zeros((20, latent), np.float32)
    with pytest.raises(UserError, match=re.escape(message)):
        family.fit(Space((latent,)), latents, latents, lambda done: None, components)
