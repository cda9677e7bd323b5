"""Distributions of latents against TensorFlow Probability, integrals, and their own draws."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.full_gaussian import FullGaussian
from vae_runner.distributions.gamma import beta_sample, implicit_gradient, log_gamma_sample
from vae_runner.distributions.gaussian import DiagonalGaussian, StandardNormal
from vae_runner.distributions.laplace import Laplace
from vae_runner.distributions.mixture import EqualMixture, GaussianMixture
from vae_runner.distributions.sphere import PowerSpherical, UniformOnSphere
from vae_runner.training.noise import NumpyNoise

tfd = tfp.distributions
DRAWS = 100_000
KOLMOGOROV_SMIRNOV = 1.63 / math.sqrt(DRAWS)  # a distance that true draws exceed once in a hundred times


def noise(images: int = DRAWS) -> NumpyNoise:
    """Numbers for so many images."""
    return NumpyNoise(np.random.default_rng(0), images)


def rows(values: Any, count: int) -> tf.Tensor:
    """The same values for so many images."""
    return tf.repeat(tf.constant(values, tf.float32)[tf.newaxis], count, axis=0)


def lower_triangular(dimensions: int, seed: int) -> np.ndarray:
    """A scale of a Gaussian."""
    scale = np.tril(np.random.default_rng(seed).normal(0, 0.7, (dimensions, dimensions)))
    scale[np.diag_indices(dimensions)] = np.exp(0.3 * np.diag(scale))
    return scale


def power_spherical(coordinates: int, concentration: float, count: int = 1, seed: int = 0) -> PowerSpherical:
    """Around a direction of no axis."""
    direction = np.random.default_rng(seed).normal(size=coordinates)
    direction /= np.linalg.norm(direction)
    return PowerSpherical(rows(direction, count), tf.fill([count], float(concentration)))


POSTERIORS: dict[str, Callable[[int], Any]] = {
    "gaussian": lambda n: DiagonalGaussian(rows([0.7, -1.2], n), rows([-1.0, 0.5], n)),
    "full gaussian": lambda n: FullGaussian(rows([0.7, -1.2], n), rows(lower_triangular(2, 3), n)),
    "laplace": lambda n: Laplace(rows([0.7, -1.2], n), rows([-0.7, 0.3], n)),
}
LEARNED = DiagonalGaussian(tf.constant([[0.3, -0.5]]), tf.constant([[0.4, -0.6]]))


# --- densities -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_log_probs_and_entropies_are_tensorflow_probabilitys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_scale, value = (rng.normal(0, 1.5, (4, 3)) for _ in range(3))
    scale = np.stack([lower_triangular(3, seed + i) for i in range(4)])
    pairs = [
        (DiagonalGaussian, tfd.MultivariateNormalDiag(mean, np.exp(log_scale)), (mean, 2 * log_scale)),
        (Laplace, tfd.Independent(tfd.Laplace(mean, np.exp(log_scale)), 1), (mean, log_scale)),
        (FullGaussian, tfd.MultivariateNormalTriL(mean, scale), (mean, scale)),
    ]
    for distribution, theirs, parameters in pairs:
        ours = distribution(*(tf.constant(parameter, tf.float32) for parameter in parameters))
        np.testing.assert_allclose(
            ours.log_prob(tf.constant(value, tf.float32)), theirs.log_prob(value), rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), components=st.integers(1, 7))
def test_a_mixture_is_tensorflow_probabilitys(seed: int, components: int) -> None:
    rng = np.random.default_rng(seed)
    logits, value = rng.normal(0, 2, components), rng.normal(0, 2, (5, 3))
    means, log_vars = rng.normal(0, 2, (components, 3)), rng.normal(-1, 1, (components, 3))
    theirs = tfd.MixtureSameFamily(
        tfd.Categorical(logits=logits), tfd.MultivariateNormalDiag(means, np.exp(log_vars / 2))
    )
    ours = GaussianMixture(*(tf.constant(part, tf.float32) for part in (logits, means, log_vars)))
    np.testing.assert_allclose(
        ours.log_prob(tf.constant(value, tf.float32)), theirs.log_prob(value), rtol=1e-4, atol=1e-3
    )
    np.testing.assert_allclose(ours.mean, theirs.mean()[np.newaxis], rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(coordinates=st.integers(2, 20), concentration=st.floats(0.125, 200, width=32), seed=st.integers(0, 1000))
def test_a_power_spherical_is_tensorflow_probabilitys(coordinates: int, concentration: float, seed: int) -> None:
    ours = power_spherical(coordinates, concentration, seed=seed)
    direction = ours.direction.numpy().astype(np.float64)
    direction /= np.linalg.norm(direction)
    theirs = tfd.PowerSpherical(direction, np.float64([concentration]))
    value = np.random.default_rng(seed + 1).normal(size=(1, coordinates)) + 3 * direction
    value /= np.linalg.norm(value)
    log_prob = theirs.log_prob(value).numpy()
    np.testing.assert_allclose(ours.log_prob(tf.constant(value, tf.float32)), log_prob, rtol=1e-3, atol=3e-3)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-3, atol=3e-3)


@pytest.mark.parametrize(
    ("coordinates", "concentration", "kl"), [(2, 4, 0.827695), (3, 4, 0.809438), (5, 2, 0.303973), (11, 20, 3.134624)]
)
def test_the_kl_of_a_power_spherical_is_that_of_the_reference(
    coordinates: int, concentration: float, kl: float
) -> None:
    q = power_spherical(coordinates, concentration)
    np.testing.assert_allclose(kl_divergence(q, UniformOnSphere(coordinates), q.mean), [kl], atol=2e-5)


@pytest.mark.parametrize("concentration", [0.5, 4.0, 60.0])
def test_a_power_spherical_integrates_to_one_on_the_circle(concentration: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 20_001)
    circle = tf.constant(np.stack([np.cos(angles), np.sin(angles)], axis=1), tf.float32)
    density = np.exp(power_spherical(2, concentration, 20_001).log_prob(circle).numpy().astype(np.float64))
    assert integrate.trapezoid(density, angles) == pytest.approx(1, rel=1e-4)


def test_a_mixture_and_a_full_gaussian_integrate_to_one_on_the_plane() -> None:
    axis = np.linspace(-9, 9, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    z = tf.constant(grid, tf.float32)
    mixture = GaussianMixture(
        tf.constant([0.3, -1.0]), tf.constant([[1.0, -2.0], [-1.0, 0.5]]), tf.constant([[0.0, -1.0], [-2.0, 1.0]])
    )
    for distribution in (mixture, POSTERIORS["full gaussian"](len(grid))):
        assert np.exp(distribution.log_prob(z).numpy().astype(np.float64)).sum() * cell == pytest.approx(1, rel=1e-4)


# --- divergences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [StandardNormal(2), LEARNED], ids=["standard", "learned"])
@pytest.mark.parametrize("name", POSTERIORS)
def test_a_kl_is_the_mean_of_log_q_over_p_at_draws_of_q(name: str, prior: Any) -> None:
    q = POSTERIORS[name](DRAWS)
    z = q.sample(noise())
    ratio = (q.log_prob(z) - prior.log_prob(z)).numpy().astype(np.float64)
    kl = kl_divergence(q, prior, z).numpy().astype(np.float64)
    assert abs(kl.mean() - ratio.mean()) < 4 * ratio.std() / math.sqrt(DRAWS)


@pytest.mark.parametrize("coordinates", [2, 3, 11])
def test_a_kl_on_the_sphere_is_the_mean_of_log_q_over_p_at_draws_of_q(coordinates: int) -> None:
    q, prior = power_spherical(coordinates, 8.0, DRAWS), UniformOnSphere(coordinates)
    z = q.sample(noise())
    ratio = (q.log_prob(z) - prior.log_prob(z)).numpy().astype(np.float64)
    assert abs(kl_divergence(q, prior, z)[0] - ratio.mean()) < 4 * ratio.std() / math.sqrt(DRAWS) + 1e-5


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_closed_kls_are_tensorflow_probabilitys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_scale, prior_mean, prior_log_scale = (rng.normal(0, 1, (4, 3)) for _ in range(4))
    scale = np.stack([lower_triangular(3, seed + i) for i in range(4)])
    standard = tfd.MultivariateNormalDiag(np.zeros(3), np.ones(3))
    diagonal = tfd.MultivariateNormalDiag(prior_mean[:1], np.exp(prior_log_scale[:1]))
    learned = DiagonalGaussian(
        tf.constant(prior_mean[:1], tf.float32), tf.constant(2 * prior_log_scale[:1], tf.float32)
    )
    gaussian = DiagonalGaussian(tf.constant(mean, tf.float32), tf.constant(2 * log_scale, tf.float32))
    full = FullGaussian(tf.constant(mean, tf.float32), tf.constant(scale, tf.float32))
    theirs = tfd.MultivariateNormalDiag(mean, np.exp(log_scale)), tfd.MultivariateNormalTriL(mean, scale)
    for q, other in zip((gaussian, full), theirs, strict=True):
        for p, other_p in ((StandardNormal(3), standard), (learned, diagonal)):
            kl = tfd.kl_divergence(other, other_p)
            np.testing.assert_allclose(kl_divergence(q, p, q.mean), kl, rtol=1e-4, atol=1e-4)


def test_the_kl_of_a_laplace_is_that_of_the_reference() -> None:
    q = Laplace(tf.constant([[0.7]]), tf.math.log(tf.constant([[0.5]])))
    np.testing.assert_allclose(kl_divergence(q, StandardNormal(1), q.mean), [0.413939], atol=1e-5)


def test_the_kl_of_a_laplace_from_any_gaussian_is_its_integral() -> None:
    x = np.linspace(-30, 30, 600_001)
    q = Laplace(tf.constant([[0.7]]), tf.constant([[-0.4]]))
    p = DiagonalGaussian(tf.constant([[-0.5]]), tf.constant([[0.6]]))
    theirs = stats.laplace(0.7, np.exp(-0.4)), stats.norm(-0.5, np.exp(0.3))
    integral = integrate.trapezoid(theirs[0].pdf(x) * (theirs[0].logpdf(x) - theirs[1].logpdf(x)), x)
    np.testing.assert_allclose(kl_divergence(q, p, q.mean), [integral], rtol=1e-5)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSTERIORS)
def test_draws_have_mean_covariance_and_log_probs_that_tell_their_entropy(name: str) -> None:
    q = POSTERIORS[name](DRAWS)
    z = q.sample(noise()).numpy().astype(np.float64)
    np.testing.assert_allclose(z.mean(axis=0), q.mean[0], atol=4 * z.std() / math.sqrt(DRAWS))
    log_probs = q.log_prob(tf.constant(z, tf.float32)).numpy().astype(np.float64)
    assert abs(log_probs.mean() + float(q.entropy()[0])) < 4 * log_probs.std() / math.sqrt(DRAWS) + 1e-5
    if name == "full gaussian":
        scale = lower_triangular(2, 3)
        np.testing.assert_allclose(np.cov(z.T), scale @ scale.T, rtol=0.03, atol=0.03)


def test_draws_of_a_laplace_have_its_distribution_function_and_are_finite_at_the_ends() -> None:
    z = np.sort(Laplace(rows([0.5], DRAWS), rows([0.4], DRAWS)).sample(noise()).numpy().ravel().astype(np.float64))
    exact = stats.laplace(0.5, math.exp(0.4)).cdf(z)
    assert np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max() < KOLMOGOROV_SMIRNOV

    class Ends:
        def uniform(self, shape: Any) -> tf.Tensor:
            return tf.constant([[0.0], [1 - 2**-24]])

    assert np.isfinite(Laplace(rows([0.0], 2), rows([0.0], 2)).sample(Ends())).all()


@pytest.mark.parametrize("coordinates", [2, 3, 9])
def test_draws_on_the_sphere_lie_on_it_and_along_the_direction_as_a_beta(coordinates: int) -> None:
    q = power_spherical(coordinates, 3.0, DRAWS)
    z = q.sample(noise()).numpy().astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    along = np.sort((1 + z @ q.direction[0].numpy()) / 2)
    exact = stats.beta((coordinates - 1) / 2 + 3, (coordinates - 1) / 2).cdf(along)
    assert np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max() < KOLMOGOROV_SMIRNOV
    # Across the direction no way is preferred.
    across = z - (z @ q.direction[0].numpy())[:, np.newaxis] * q.direction[0].numpy()
    np.testing.assert_allclose(across.mean(axis=0), 0, atol=4 / math.sqrt(DRAWS))


def test_a_direction_along_the_first_axis_is_no_exception() -> None:
    q = PowerSpherical(rows([1.0, 0.0, 0.0], 1000), tf.fill([1000], 50.0))
    with tf.GradientTape() as tape:
        tape.watch(q.direction)
        z = q.sample(noise(1000))
    assert float(tf.reduce_mean(z[:, 0])) > 0.9
    assert np.isfinite(tape.gradient(z, q.direction)).all()


def test_uniform_draws_on_the_sphere_have_norm_one_and_no_mean() -> None:
    z = UniformOnSphere(4).sample(noise()).numpy()
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=4 / math.sqrt(DRAWS))
    np.testing.assert_allclose(
        UniformOnSphere(3).log_prob(tf.constant(z[:2, :3])), np.log([1 / (4 * np.pi)] * 2), rtol=1e-6
    )


def test_draws_of_a_mixture_come_from_its_components_as_often_as_their_weights_say() -> None:
    mixture = GaussianMixture(
        tf.math.log([0.2, 0.5, 0.3]), tf.constant([[-50.0], [0.0], [50.0]]), tf.constant([[0.0], [2.0], [-2.0]])
    )
    z = mixture.sample(noise()).numpy().ravel()
    for low, high, weight, scale in ((-99, -25, 0.2, 1), (-25, 25, 0.5, math.e), (25, 99, 0.3, 1 / math.e)):
        inside = z[(z > low) & (z < high)]
        assert len(inside) / DRAWS == pytest.approx(weight, abs=4 * math.sqrt(weight / DRAWS))
        assert inside.std() == pytest.approx(scale, rel=0.03)


def test_an_equal_mixture_of_gaussians_is_the_gaussian_mixture_without_its_copies() -> None:
    rng = np.random.default_rng(0)
    parameters = {name: tf.constant(rng.normal(size=(4, 2)), tf.float32) for name in ("mean", "log_var")}
    mixture = EqualMixture(lambda given: DiagonalGaussian(**given), parameters)
    plain = GaussianMixture(tf.zeros([4]), parameters["mean"], parameters["log_var"])
    z = mixture.sample(noise())
    np.testing.assert_allclose(z, plain.sample(noise()), atol=1e-5)
    np.testing.assert_allclose(mixture.log_prob(z), plain.log_prob(z), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixture.mean, plain.mean, atol=1e-6)


@pytest.mark.parametrize("concentration", [0.05, 0.4, 1.0, 3.5, 200.0])
def test_draws_of_a_gamma_have_its_distribution_function(concentration: float) -> None:
    log_gamma = np.sort(log_gamma_sample(tf.fill([DRAWS], concentration), noise()).numpy().astype(np.float64))
    assert np.isfinite(log_gamma).all()
    exact = special.gammainc(concentration, np.exp(log_gamma))
    assert np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max() < KOLMOGOROV_SMIRNOV


@pytest.mark.parametrize("concentration", [0.3, 1.5, 20.0])
def test_the_mean_of_a_gamma_moves_with_its_concentration(concentration: float) -> None:
    """E g = α, so that its derivative is 1; and E log g = ψ(α), whose derivative is ψ′(α)."""
    alpha = tf.constant(concentration)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(alpha)
        log_gamma = log_gamma_sample(tf.fill([DRAWS], alpha), noise())
        mean, mean_log = tf.reduce_mean(tf.exp(log_gamma)), tf.reduce_mean(log_gamma)
    assert float(tape.gradient(mean, alpha)) == pytest.approx(1, rel=0.03)
    assert float(tape.gradient(mean_log, alpha)) == pytest.approx(float(special.polygamma(1, concentration)), rel=0.03)


@given(log_concentration=st.floats(0, math.log(1e5)), quantile=st.floats(1e-5, 1 - 1e-5))
def test_a_draw_of_a_gamma_moves_with_its_concentration_as_its_quantile_does(
    log_concentration: float, quantile: float
) -> None:
    """Within float32's rounding, of which subtractions make √a times as much."""
    alpha = tf.constant([math.exp(log_concentration)], tf.float32)
    a = max(float(alpha[0]), 1.0)
    drawn = tf.constant([special.gammaincinv(a, quantile)], tf.float32)
    step = 1e-4 * a
    above, below = special.gammaincinv(a + step, quantile), special.gammaincinv(a - step, quantile)
    exact = (above - below) / (2 * step)
    assert float(implicit_gradient(alpha, drawn)[0]) == pytest.approx(exact, rel=4e-6 * math.sqrt(a))


def test_a_draw_of_a_gamma_that_underflows_moves_nowhere() -> None:
    np.testing.assert_allclose(implicit_gradient(tf.constant([1.0, 30.0]), tf.zeros([2])), 0, atol=1e-30)


def test_draws_of_a_beta_have_its_mean_and_their_mean_moves_with_its_parameters() -> None:
    alpha, beta = tf.constant(2.3), tf.constant(1.7)
    with tf.GradientTape() as tape:
        tape.watch([alpha, beta])
        drawn = beta_sample(tf.fill([DRAWS], alpha), tf.fill([DRAWS], beta), noise())
        mean = tf.reduce_mean(drawn)
    assert float(mean) == pytest.approx(2.3 / 4, abs=0.003)
    by_alpha, by_beta = tape.gradient(mean, [alpha, beta])
    assert float(by_alpha) == pytest.approx(1.7 / 16, rel=0.03)
    assert float(by_beta) == pytest.approx(-2.3 / 16, rel=0.03)


@pytest.mark.parametrize(("coordinates", "concentration"), [(3, 2.0), (5, 2.0), (11, 20.0)])
def test_draws_on_the_sphere_move_with_the_concentration_as_their_mean_does(
    coordinates: int, concentration: float
) -> None:
    """The mean of directionᵀ z is 2 α / (α + β) − 1: a sampler that rejects has a biased gradient."""
    kappa = tf.constant(concentration)
    direction = power_spherical(coordinates, 1.0, DRAWS).direction
    with tf.GradientTape() as tape:
        tape.watch(kappa)
        z = PowerSpherical(direction, tf.fill([DRAWS], kappa)).sample(noise())
        along = tf.reduce_mean(tf.reduce_sum(direction * z, axis=1))
    beta = (coordinates - 1) / 2
    exact = 2 * beta / (2 * beta + concentration) ** 2
    assert float(tape.gradient(along, kappa)) == pytest.approx(exact, rel=0.03)


def test_draws_are_the_same_with_and_without_xla() -> None:
    """All numbers come in with the noise: what XLA compiles has no generator."""
    normal = [tf.random.stateless_normal(shape, [1, 2]) for shape in ([64, 2], [64, 6], [64, 6], [64, 2])]
    uniform = [tf.random.stateless_uniform(shape, [3, 4]) for shape in ([64, 6], [64], [64, 6], [64])]

    class Given:
        def __init__(self) -> None:
            self.normals, self.uniforms = iter([normal[1], normal[2], normal[0]]), iter(uniform)

        def normal(self, shape: Any) -> tf.Tensor:
            return next(self.normals)

        def uniform(self, shape: Any) -> tf.Tensor:
            return next(self.uniforms)

    def draw() -> tf.Tensor:
        return power_spherical(3, 4.0, 64).sample(Given())

    np.testing.assert_allclose(tf.function(draw, jit_compile=True)(), draw(), atol=1e-5)
