"""MS-SSIM against an implementation in NumPy and SciPy, and TensorFlow's."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from vae_runner.distributions.structural_similarity import (
    StructuralSimilarity,
    ms_ssim,
    scale_weights,
)

PAPER = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def photographs(side: int, channels: int = 1, count: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth images in [0, 1] with some noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, side, side, channels)), (0, 3, 3, 0))
    images = 0.5 + smooth / smooth.std() * 0.2 + rng.normal(0, 0.03, smooth.shape)
    return np.clip(images, 0, 1).astype(np.float32)


def by_hand(x: np.ndarray, y: np.ndarray, scales: int) -> np.ndarray:
    """The formula of Wang et al. (2003), an image, a channel and a scale at a time."""
    weights = PAPER[:scales] / PAPER[:scales].sum()
    side = min(11, x.shape[1] - (x.shape[1] + 1) % 2)
    blurred = partial(ndimage.gaussian_filter, sigma=1.5, radius=side // 2)
    inside = slice(side // 2, -(side // 2))
    similarities = np.zeros((len(x), x.shape[3]))
    for image, channel in np.ndindex(similarities.shape):
        a, b = (v[image, :, :, channel].astype(np.float64) for v in (x, y))
        product = 1.0
        for scale, weight in enumerate(weights):
            if scale:
                a, b = (v.reshape(len(v) // 2, 2, len(v) // 2, 2).mean((1, 3)) for v in (a, b))
            mean_a, mean_b = blurred(a), blurred(b)
            var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
            of_windows = (2 * (blurred(a * b) - mean_a * mean_b) + 9e-4) / (var_a + var_b + 9e-4)
            if scale == scales - 1:
                of_windows *= (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            product *= of_windows[inside, inside].mean() ** weight
        similarities[image, channel] = product
    return similarities.mean(1)


@pytest.mark.parametrize(("side", "channels", "scales"), [(8, 1, 1), (28, 1, 2), (64, 3, 3)])
def test_it_is_the_formula(side: int, channels: int, scales: int) -> None:
    x = photographs(side, channels)
    y = np.clip(0.8 * x + 0.2 * photographs(side, channels, seed=1), 0, 1)
    np.testing.assert_allclose(ms_ssim(tf.constant(x), tf.constant(y)), by_hand(x, y, scales), rtol=1e-4)


@pytest.mark.parametrize(("side", "scales"), [(28, 2), (100, 4), (256, 5)])
def test_it_is_tensorflows_also_where_a_scale_has_an_odd_side(side: int, scales: int) -> None:
    """As in Wang et al. (2003): images have a range of 1, and the last scale has its weight as its power."""
    x, y = (tf.constant(photographs(side, count=2, seed=seed)) for seed in range(2))
    y = 0.7 * x + 0.3 * y
    theirs = tf.image.ssim_multiscale(x, y, 1.0, power_factors=(PAPER[:scales] / PAPER[:scales].sum()).tolist())
    np.testing.assert_allclose(ms_ssim(x, y), theirs, rtol=1e-4)


@pytest.mark.parametrize(("side", "scales"), [(1, 1), (8, 1), (21, 1), (22, 2), (28, 2), (64, 3), (256, 5), (4096, 5)])
def test_there_are_as_many_scales_as_hold_the_window_with_weights_that_add_up_to_one(side: int, scales: int) -> None:
    weights = scale_weights(side)
    assert len(weights) == scales
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights / weights[0], PAPER[:scales] / PAPER[0])


def test_equal_images_have_no_error_and_the_error_is_symmetric() -> None:
    x, y = tf.constant(photographs(28)), tf.constant(photographs(28, seed=1))
    np.testing.assert_allclose(StructuralSimilarity(x).error(x), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(StructuralSimilarity(x).error(y), StructuralSimilarity(y).error(x), rtol=1e-6)
    assert (StructuralSimilarity(x).error(y).numpy() > 0.1).all()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (50, 47, 3), (1, 3, 1)])
def test_gradients_are_finite_at_constant_equal_and_opposite_images(shape: tuple[int, ...], compiled: bool) -> None:
    """A negative similarity of contrasts to a fractional power is NaN."""
    x = tf.constant(np.random.default_rng(0).random((4, *shape)), tf.float32)

    def error_and_gradient(images: tf.Tensor, mean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(mean)
            error = StructuralSimilarity(mean).error(images)
        return error, tape.gradient(error, mean)

    computed = tf.function(error_and_gradient, jit_compile=compiled)
    for images, mean in ((x, 0 * x + 0.5), (0 * x, 0 * x), (x, x), (x, 1 - x), (0 * x, 0 * x + 1)):
        error, gradient = computed(images, mean)
        assert np.isfinite(error).all()
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(error, StructuralSimilarity(mean).error(images), atol=1e-4)
