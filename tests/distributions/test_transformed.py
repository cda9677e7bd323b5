"""Densities of what flows make of Gaussians: integrals, their own draws, and where the prior is taken."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.making import FLOWS, INVERTIBLE, STEPS, WIDTH, normal, of_one_image
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.distributions.mixture import EqualMixture
from vae_runner.distributions.transformed import Flow, Transformed
from vae_runner.flows.planar import Planar
from vae_runner.flows.real_nvp import RealNvp, coupling_networks
from vae_runner.flows.sylvester import Sylvester
from vae_runner.posteriors.iaf import Iaf
from vae_runner.training.noise import NumpyNoise

DRAWS = 100_000


def base(count: int, mean: tuple[float, float] = (0.7, -0.4), log_var: tuple[float, float] = (-1.0, 0.3)) -> Any:
    """A Gaussian of two dimensions for so many images."""
    return DiagonalGaussian(*(tf.repeat(tf.constant([values]), count, axis=0) for values in (mean, log_var)))


def noise(count: int = DRAWS, seed: int = 0) -> NumpyNoise:
    """Numbers for so many images."""
    return NumpyNoise(np.random.default_rng(seed), count)


def float64(values: tf.Tensor) -> np.ndarray:
    """The values, to add many of them up."""
    return values.numpy().astype(np.float64)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_a_density_integrates_to_one_on_the_plane_and_is_that_of_its_draws(name: str) -> None:
    axis = np.linspace(-25, 25, 1000)  # 0 is between two cells
    grid = tf.constant(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), tf.float32)
    q = Transformed(base(len(grid)), of_one_image(name, 2, len(grid)))
    mass = np.exp(float64(q.log_prob(grid))) * (axis[1] - axis[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    q = Transformed(base(DRAWS), of_one_image(name, 2, DRAWS))
    z = q.sample(noise())
    np.testing.assert_allclose(q.log_prob(tf.identity(z)), q.log_prob(z), rtol=1e-3, atol=2e-3)
    quadrant = mass.reshape(len(axis), -1)[axis > 0][:, axis > 0].sum()
    assert float(np.mean(np.all(z.numpy() > 0, axis=1))) == pytest.approx(quadrant, abs=0.01)


def test_a_mixture_of_flows_integrates_to_one_on_the_plane_and_is_that_of_its_draws() -> None:
    posterior = Iaf(steps=2, width=8)
    posterior.create_weights((8, 8, 1), (2,), 0)
    rng = np.random.default_rng(0)
    for weight in posterior.trainable_variables:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    parameters = {
        name: tf.constant(rng.normal(size=(3, *shape)), tf.float32)
        for name, shape in posterior.parameters((2,)).items()
    }
    mixture = EqualMixture(posterior.distribution, parameters)
    axis = np.linspace(-15, 15, 301)
    grid = tf.constant(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), tf.float32)
    mass = np.exp(float64(mixture.log_prob(grid))) * (axis[1] - axis[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=5e-3)
    z = mixture.sample(noise()).numpy()
    right = mass[grid.numpy()[:, 0] > 0.05].sum()
    assert float(np.mean(z[:, 0] > 0.05)) == pytest.approx(right, abs=0.01)


@pytest.mark.parametrize("name", FLOWS)
def test_the_mean_weight_of_draws_is_one(name: str) -> None:
    """E_q p/q = 1 for any density p that q covers: here, a Gaussian among the draws."""
    q = Transformed(base(DRAWS), of_one_image(name, 2, DRAWS, seed=1))
    z = q.sample(noise())
    p = DiagonalGaussian(
        tf.reduce_mean(z, axis=0, keepdims=True), tf.math.log(0.3 * tf.math.reduce_variance(z, axis=0))
    )
    weights = np.exp(float64(p.log_prob(z) - q.log_prob(z)))
    standard_error = weights.std() / math.sqrt(DRAWS)
    assert standard_error < 0.02
    assert abs(weights.mean() - 1) < 4 * standard_error


def identities(count: int) -> dict[str, Flow]:
    """Flows that leave z where it is."""
    rng = np.random.default_rng(0)
    zeros = tf.zeros([count, STEPS, 2, 3])
    return {
        "planar": Planar(normal(rng, count, STEPS, 2), tf.zeros([count, STEPS, 2]), normal(rng, count, STEPS)),
        "sylvester": Sylvester(normal(rng, count, STEPS, 2, 2), zeros, normal(rng, count, STEPS, 2)),
        "real_nvp": RealNvp(coupling_networks(STEPS, 2, WIDTH).given(normal(rng, count, WIDTH))),
    }


@pytest.mark.parametrize("name", ["planar", "sylvester", "real_nvp"])
def test_of_the_identity_the_kl_is_the_gaussians_in_the_mean(name: str) -> None:
    q0, prior = base(DRAWS), StandardNormal(2)
    q = Transformed(q0, identities(DRAWS)[name])
    z = q.sample(noise())
    estimate = float64(kl_divergence(q, prior, z))
    assert abs(estimate.mean() - float(kl_divergence(q0, prior, z)[0])) < 4 * estimate.std() / math.sqrt(DRAWS)
    np.testing.assert_allclose(q.mean, q0.mean, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_the_prior_is_taken_where_the_flow_ends_and_not_where_it_begins(name: str) -> None:
    """log p(z) of the last z, as in Rezende & Mohamed (2015, equation 15)."""
    q0, prior, flow = base(50), StandardNormal(2), of_one_image(name, 2, 50)
    q = Transformed(q0, flow)
    start, z = q0.sample(noise(50)), q.sample(noise(50))
    image, log_det = flow.forward(start)
    np.testing.assert_array_equal(z, image)
    expected = float64(q0.log_prob(start)) - float64(log_det) - float64(prior.log_prob(image))
    np.testing.assert_allclose(kl_divergence(q, prior, z), expected, rtol=1e-4, atol=1e-4)
    if name != "householder":  # which keeps the distance from 0
        at_start = float64(q0.log_prob(start)) - float64(log_det) - float64(prior.log_prob(start))
        assert np.abs(at_start - expected).max() > 0.1


@pytest.mark.parametrize("name", ["planar", "sylvester"])
def test_without_an_inverse_the_last_draw_alone_has_a_density(name: str) -> None:
    q = Transformed(base(5), of_one_image(name, 2, 5))
    first = q.sample(noise(5))
    assert np.isfinite(q.log_prob(first)).all()
    second = q.sample(noise(5, seed=1))
    assert np.isfinite(q.log_prob(second)).all()
    for other in (first, tf.identity(second)):
        with pytest.raises(NotImplementedError, match="has no inverse in closed form"):
            q.log_prob(other)


@pytest.mark.parametrize("name", FLOWS)
def test_the_mean_is_where_the_flow_takes_the_bases(name: str) -> None:
    q, flow = Transformed(base(1), of_one_image(name, 2, 1)), of_one_image(name, 2, 1)
    np.testing.assert_array_equal(q.mean, flow.forward(tf.constant([[0.7, -0.4]]))[0])
