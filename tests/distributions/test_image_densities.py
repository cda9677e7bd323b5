"""Densities of images against TensorFlow Probability, integrals, sums over levels, and their own draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.bernoulli import Bernoulli, CrossEntropy
from vae_runner.distributions.categorical_levels import CategoricalLevels
from vae_runner.distributions.continuous_bernoulli import ContinuousBernoulli
from vae_runner.distributions.discretized import DiscretizedGaussian, DiscretizedLogistic
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.laplace import Laplace
from vae_runner.distributions.levels import log_ndtr
from vae_runner.distributions.logistic_mixture import LogisticMixture
from vae_runner.distributions.student_t import StudentT
from vae_runner.training.noise import NumpyNoise

tfd = tfp.distributions
LEVELS = np.arange(256) / 255
DRAWS = 100_000
KOLMOGOROV_SMIRNOV = 1.63 / math.sqrt(DRAWS)  # a distance that true draws exceed once in a hundred times

logits = st.floats(-30, 30, width=32)
locations = st.floats(-1, 2, width=32)
log_scales = st.floats(-6, 1, width=32)


def pixel(value: float) -> tf.Tensor:
    """One grey image of one pixel."""
    return tf.constant(value, tf.float32, shape=[1, 1, 1, 1])


def pixels(values: np.ndarray) -> tf.Tensor:
    """Grey images of one pixel each."""
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


def same_for(count: int, distribution: Callable[..., Distribution], *parameters: float) -> Distribution:
    """The distribution of so many images of one pixel, all with these parameters."""
    return distribution(*(pixels(np.full(count, parameter)) for parameter in parameters))


# --- two levels ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(logit=st.floats(-1e4, 1e4, width=32), value=st.sampled_from([0.0, 1.0]))
def test_a_bernoulli_is_tensorflow_probabilitys(logit: float, value: float) -> None:
    ours, theirs = Bernoulli(pixel(logit)), tfd.Bernoulli(logits=logit, dtype=tf.float32)
    np.testing.assert_allclose(ours.log_prob(pixel(value)), [theirs.log_prob(value)], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.mean, pixel(theirs.mean().numpy()), rtol=1e-6)
    np.testing.assert_allclose(ours.entropy(), [theirs.entropy()], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(ours.log_prob(pixel(0))) + np.exp(ours.log_prob(pixel(1))), 1, rtol=1e-6)


def test_a_bernoullis_values_are_those_of_the_reference() -> None:
    np.testing.assert_allclose(Bernoulli(pixel(3)).log_prob(pixel(1)), [-0.048587], atol=1e-6)
    np.testing.assert_allclose(Bernoulli(pixel(3)).log_prob(pixel(0)), [-3.048587], atol=1e-6)


def test_the_cross_entropy_of_a_grey_image_is_the_mean_over_its_binary_draws() -> None:
    rng = np.random.default_rng(0)
    image, logit = rng.random((1, 3, 3, 1)), tf.constant(rng.normal(0, 2, (1, 3, 3, 1)), tf.float32)
    draws = tf.constant(rng.random((20_000, 3, 3, 1)) < image, tf.float32)
    log_probs = Bernoulli(tf.tile(logit, [20_000, 1, 1, 1])).log_prob(draws).numpy()
    error = CrossEntropy(logit).error(tf.constant(image, tf.float32)).numpy()[0]
    assert abs(error + log_probs.mean()) < 4 * log_probs.std() / math.sqrt(len(log_probs))
    # Its least value is the entropy of those draws, reached where the mean is the image.
    least = CrossEntropy(tf.constant(special.logit(image), tf.float32)).error(tf.constant(image, tf.float32)).numpy()[0]
    assert least == pytest.approx(-(special.xlogy(image, image) + special.xlogy(1 - image, 1 - image)).sum(), rel=1e-5)


# --- [0, 1] and the real line ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(logit=logits)
def test_a_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit: float) -> None:
    values = np.linspace(0, 1, 4001)
    density = np.exp(same_for(4001, ContinuousBernoulli, logit).log_prob(pixels(values)).numpy())
    assert integrate.simpson(density, x=values) == pytest.approx(1, rel=1e-4)
    mean = float(ContinuousBernoulli(pixel(logit)).mean[0, 0, 0, 0])
    assert mean == pytest.approx(integrate.simpson(values * density, x=values), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("logit", "log_normalizer"), [(0, 0.693148), (0.5, 0.713682), (1, 0.771937), (2, 0.965489), (800, 6.684612)]
)
def test_a_continuous_bernoullis_normalizer_is_that_of_the_reference(logit: float, log_normalizer: float) -> None:
    ours = ContinuousBernoulli(pixel(logit)).log_prob(pixel(0)).numpy()[0]
    assert ours + np.logaddexp(0, logit) == pytest.approx(log_normalizer, abs=2e-4 if logit > 100 else 2e-6)


@pytest.mark.parametrize(("logit", "mean"), [(0.7, 0.557862), (-3, 0.280938), (0, 0.5)])
def test_a_continuous_bernoullis_mean_is_that_of_the_reference_and_no_sigmoid(logit: float, mean: float) -> None:
    assert float(ContinuousBernoulli(pixel(logit)).mean[0, 0, 0, 0]) == pytest.approx(mean, abs=2e-6)


@pytest.mark.parametrize("logit", [1e-6, 0.1, 0.59, 0.61, -0.59, -0.61, 3.0, 100.0])
def test_a_continuous_bernoullis_mean_is_right_on_both_sides_of_where_its_formula_changes(logit: float) -> None:
    mean = 0.5 + logit / 12 if abs(logit) < 1e-3 else 1 / -np.expm1(-logit) - 1 / logit
    assert float(ContinuousBernoulli(pixel(logit)).mean[0, 0, 0, 0]) == pytest.approx(mean, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(logit=logits, value=st.floats(0, 1, width=32))
def test_a_continuous_bernoulli_is_tensorflow_probabilitys(logit: float, value: float) -> None:
    theirs = tfd.ContinuousBernoulli(logits=tf.constant(logit, tf.float64)).log_prob(tf.constant(value, tf.float64))
    np.testing.assert_allclose(ContinuousBernoulli(pixel(logit)).log_prob(pixel(value)), [theirs], rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(mean=locations, log_scale=log_scales, value=st.floats(0, 1, width=32), nu=st.floats(2, 50, width=32))
def test_densities_on_the_real_line_are_tensorflow_probabilitys(
    mean: float, log_scale: float, value: float, nu: float
) -> None:
    scale = tf.exp(tf.constant(log_scale, tf.float64))
    mean64 = tf.constant(mean, tf.float64)
    pairs = [
        (DiagonalGaussian(pixel(mean), pixel(2 * log_scale)), tfd.Normal(mean64, scale)),
        (Laplace(pixel(mean), pixel(log_scale)), tfd.Laplace(mean64, scale)),
        (
            StudentT(pixel(mean), pixel(log_scale), tf.constant(nu, tf.float32)),
            tfd.StudentT(tf.constant(nu, tf.float64), mean64, scale),
        ),
    ]
    for ours, theirs in pairs:
        log_prob = theirs.log_prob(tf.constant(value, tf.float64))
        np.testing.assert_allclose(ours.log_prob(pixel(value)), [log_prob], rtol=1e-4, atol=1e-4)


def test_students_t_of_many_degrees_of_freedom_is_a_gaussian() -> None:
    values = pixels(np.linspace(0, 1, 11))
    mean, log_scale = pixels(np.full(11, 0.4)), pixels(np.full(11, -2.0))
    t, gaussian = StudentT(mean, log_scale, tf.constant(1e6)), DiagonalGaussian(mean, 2 * log_scale)
    # float32's lgamma of half a million leaves a tenth of a nat, the same for every value.
    difference = (t.log_prob(values) - gaussian.log_prob(values)).numpy()
    np.testing.assert_allclose(difference - difference[0], 0, atol=1e-3)


# --- 256 levels ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(location=st.floats(-5, 6, width=32), log_scale=st.floats(-8, 10, width=32))
@pytest.mark.parametrize("distribution", [DiscretizedLogistic, DiscretizedGaussian])
def test_the_masses_of_all_levels_add_up_to_one_and_are_finite(
    distribution: Callable[..., Distribution], location: float, log_scale: float
) -> None:
    log_masses = same_for(256, distribution, location, log_scale).log_prob(pixels(LEVELS)).numpy()
    assert np.isfinite(log_masses).all()
    assert np.exp(log_masses.astype(np.float64)).sum() == pytest.approx(1, abs=2e-4)


@settings(deadline=None, max_examples=30)
@given(location=locations, log_scale=st.floats(-3, 1, width=32), level=st.integers(0, 255))
def test_the_mass_of_a_level_is_tensorflow_probabilitys(location: float, log_scale: float, level: int) -> None:
    scale = np.exp(np.float64(log_scale)) * 255
    for ours, theirs in ((DiscretizedLogistic, tfd.Logistic), (DiscretizedGaussian, tfd.Normal)):
        # Theirs has the mass of (k − 1, k] at k.
        continuous = theirs(np.float64(location) * 255 - 0.5, scale)
        log_mass = tfd.QuantizedDistribution(continuous, low=0.0, high=255.0).log_prob(np.float64(level))
        np.testing.assert_allclose(
            ours(pixel(location), pixel(log_scale)).log_prob(pixel(level / 255)), [log_mass], rtol=1e-3, atol=1e-3
        )


@settings(deadline=None, max_examples=30)
@given(location=locations, log_scale=st.floats(-5, 1, width=32))
@pytest.mark.parametrize("distribution", [DiscretizedLogistic, DiscretizedGaussian])
def test_the_mean_of_levels_is_their_mean_within_a_tenth_of_a_level(
    distribution: Callable[..., Distribution], location: float, log_scale: float
) -> None:
    many = same_for(256, distribution, location, log_scale)
    mean = np.sum(np.exp(many.log_prob(pixels(LEVELS)).numpy().astype(np.float64)) * LEVELS)
    assert float(many.mean[0, 0, 0, 0]) == pytest.approx(mean, abs=0.1 / 255)


@pytest.mark.parametrize(("low", "high", "log_mass"), [(3, 3.1, -5.444820), (-1, 2, -0.491259), (39, 39.5, -39.932753)])
def test_the_mass_of_a_logistic_bin_is_that_of_the_reference(low: float, high: float, log_mass: float) -> None:
    scale = 1 / 255 / (high - low)
    location = 0.5 - (low + high) / 2 * scale
    ours = DiscretizedLogistic(pixel(location), pixel(math.log(scale))).log_prob(pixel(0.5))
    np.testing.assert_allclose(ours, [log_mass], rtol=1e-4)


@pytest.mark.parametrize("x", [-1e4, -50.0, -10.001, -9.999, -5.0, -1.0, 0.0, 1e-3, 2.0, 9.0])
def test_the_logarithm_of_the_normal_distribution_function_is_scipys(x: float) -> None:
    with tf.GradientTape() as tape:
        tape.watch(variable := tf.constant(x))
        ours = log_ndtr(variable)
    np.testing.assert_allclose(ours, special.log_ndtr(x), rtol=1e-5, atol=1e-12)
    hazard = np.exp(-0.5 * x * x - 0.5 * np.log(2 * np.pi) - special.log_ndtr(x)) if x > -1e3 else -x
    np.testing.assert_allclose(tape.gradient(ours, variable), hazard, rtol=1e-3, atol=1e-12)


def mixture(channels: int, components: int, seed: int = 0, images: int = 1) -> LogisticMixture:
    """A mixture of which a pixel has several peaks."""
    rng = np.random.default_rng(seed)

    def parameter(*shape: int, low: float, high: float) -> tf.Tensor:
        values = tf.constant(rng.uniform(low, high, (1, 1, 1, *shape)), tf.float32)
        return tf.repeat(values, images, axis=0)

    return LogisticMixture(
        parameter(components, low=-1, high=1),
        parameter(channels, components, low=0.2, high=0.8),
        parameter(channels, components, low=-4, high=-2),
        parameter(3, components, low=-0.9, high=0.9) if channels == 3 else None,
    )


def test_a_mixture_of_one_component_is_a_discretized_logistic() -> None:
    one = mixture(1, 1)
    alone = DiscretizedLogistic(one.locations[..., 0], one.log_scales[..., 0])
    value = pixel(100 / 255)
    np.testing.assert_allclose(one.log_prob(value), alone.log_prob(value), rtol=1e-5)


def test_a_grey_mixtures_masses_add_up_to_one_and_have_its_mean() -> None:
    many = mixture(1, 5, images=256)
    masses = np.exp(many.log_prob(pixels(LEVELS)).numpy().astype(np.float64))
    assert masses.sum() == pytest.approx(1, abs=1e-4)
    assert float(many.mean[0, 0, 0, 0]) == pytest.approx((masses * LEVELS).sum(), abs=1e-4)


def test_a_colour_mixture_adds_up_to_one_over_the_last_channel_given_the_others() -> None:
    """The joint mass is that of red and green times what blue has given them, which adds up to 1."""
    many = mixture(3, 4, images=256)
    two = LogisticMixture(many.logits, many.locations[..., :2, :], many.log_scales[..., :2, :], many.coefficients)
    for red, green in ((0, 255), (100, 90), (255, 3)):
        colours = np.stack([np.full(256, red / 255), np.full(256, green / 255), LEVELS], axis=-1)
        images = tf.reshape(tf.constant(colours, tf.float32), [256, 1, 1, 3])
        log_joint = many.log_prob(images).numpy().astype(np.float64)
        assert special.logsumexp(log_joint) == pytest.approx(
            float(two.log_prob(images[..., :2])[0]), rel=1e-3, abs=1e-3
        )


@settings(deadline=None, max_examples=20)
@given(level=st.integers(0, 255), seed=st.integers(0, 1000))
def test_a_categorical_is_tensorflow_probabilitys_at_every_level(level: int, seed: int) -> None:
    logit = np.random.default_rng(seed).normal(0, 3, (1, 1, 1, 1, 256)).astype(np.float32)
    ours, theirs = CategoricalLevels(tf.constant(logit)), tfd.Categorical(logits=logit[0, 0, 0, 0])
    np.testing.assert_allclose(ours.log_prob(pixel(level / 255)), [theirs.log_prob(level)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.mean, pixel((special.softmax(logit.astype(np.float64)) * LEVELS).sum()), rtol=1e-5)


def test_equal_logits_are_eight_bits_a_dimension() -> None:
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)) / 255, tf.float32)
    nats = -CategoricalLevels(tf.zeros([2, 4, 4, 3, 256])).log_prob(image)
    np.testing.assert_allclose(nats / (4 * 4 * 3 * math.log(2)), [8, 8], rtol=1e-6)


# --- draws and edges -------------------------------------------------------------------------------------------------

ON_LEVELS = {
    "logistic": lambda n: same_for(n, DiscretizedLogistic, 0.9, -2.5),
    "gaussian": lambda n: same_for(n, DiscretizedGaussian, 0.1, -2.0),
    "mixture": lambda n: mixture(1, 3, images=n),
    "categorical": lambda n: CategoricalLevels(
        tf.tile(tf.constant(np.random.default_rng(1).normal(0, 2, (1, 1, 1, 1, 256)), tf.float32), [n, 1, 1, 1, 1])
    ),
}


@pytest.mark.parametrize("name", ON_LEVELS)
def test_draws_of_levels_come_as_often_as_their_masses_say(name: str) -> None:
    draws = 20_000 if name == "categorical" else DRAWS
    sample = ON_LEVELS[name](draws).sample(NumpyNoise(np.random.default_rng(0), draws))
    level = np.round(sample.numpy().ravel() * 255).astype(int)
    np.testing.assert_allclose(level / 255, sample.numpy().ravel(), atol=1e-6)
    frequencies = np.bincount(level, minlength=256) / draws
    masses = np.exp(ON_LEVELS[name](256).log_prob(pixels(LEVELS)).numpy().astype(np.float64))
    assert (np.abs(frequencies - masses) < 5 * np.sqrt(masses / draws) + 5 / draws).all()


@pytest.mark.parametrize("logit", [-25.0, -2.0, 0.0, 5e-4, 0.5, 4.0, 25.0])
def test_draws_of_a_continuous_bernoulli_have_its_distribution_function(logit: float) -> None:
    sample = same_for(DRAWS, ContinuousBernoulli, logit).sample(NumpyNoise(np.random.default_rng(0), DRAWS))
    drawn = np.sort(sample.numpy().ravel().astype(np.float64))
    exact = drawn if abs(logit) < 1e-6 else np.expm1(logit * drawn) / np.expm1(logit)
    assert np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max() < 1.63 / math.sqrt(
        DRAWS
    )  # Kolmogorov and Smirnov, 1 %


@pytest.mark.parametrize("nu", [1.2, 3.0, 40.0])
def test_draws_of_students_t_have_its_distribution_function(nu: float) -> None:
    t = StudentT(pixels(np.full(DRAWS, 0.3)), pixels(np.full(DRAWS, -1.0)), tf.constant(nu))
    drawn = np.sort((t.sample(NumpyNoise(np.random.default_rng(0), DRAWS)).numpy().ravel() - 0.3) * math.e)
    exact = special.stdtr(nu, drawn)
    assert np.abs(exact - (np.arange(DRAWS) + 0.5) / DRAWS).max() < KOLMOGOROV_SMIRNOV


EXTREMES = {
    "bernoulli": lambda extreme: Bernoulli(pixel(1e4 * extreme)),
    "cross-entropy": lambda extreme: CrossEntropy(pixel(1e4 * extreme)),
    "continuous bernoulli": lambda extreme: ContinuousBernoulli(pixel(1e4 * extreme)),
    "logistic": lambda extreme: DiscretizedLogistic(pixel(1e3 * extreme), pixel(-7.0)),
    "gaussian": lambda extreme: DiscretizedGaussian(pixel(1e3 * extreme), pixel(-7.0)),
    "wide gaussian": lambda extreme: DiscretizedGaussian(pixel(extreme), pixel(6.0)),
    "very wide gaussian": lambda extreme: DiscretizedGaussian(pixel(extreme), pixel(14.0)),
    "very wide logistic": lambda extreme: DiscretizedLogistic(pixel(extreme), pixel(14.0)),
    "categorical": lambda extreme: CategoricalLevels(tf.reshape(1e4 * extreme * tf.one_hot(3, 256), [1, 1, 1, 1, 256])),
}


@pytest.mark.parametrize("extreme", [-1.0, 1.0])
@pytest.mark.parametrize("value", [0.0, 1.0, 128 / 255])
@pytest.mark.parametrize("name", EXTREMES)
def test_values_and_gradients_are_finite_at_the_edges(name: str, value: float, extreme: float) -> None:
    distribution = EXTREMES[name](extreme)
    fields = list(vars(distribution).values())
    with tf.GradientTape() as tape:
        tape.watch(fields)
        value_of = distribution.error if name == "cross-entropy" else distribution.log_prob
        log_prob = value_of(pixel(value))
    assert np.isfinite(log_prob).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(log_prob, fields))
