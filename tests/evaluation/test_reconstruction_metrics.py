"""MSE, PSNR, SSIM and MS-SSIM, held against known values and TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from vae_runner.errors import UserError
from vae_runner.evaluation import reconstruction
from vae_runner.evaluation.reconstruction import (
    C1,
    SCALE_WEIGHTS,
    ms_ssim,
    ms_ssim_name,
    mse,
    psnr,
    scales_for,
    ssim,
    window_for,
)


def pair(shape: tuple[int, ...], noise: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.random(shape)
    images = (images + np.roll(images, 1, 1) + np.roll(images, 1, 2)) / 3
    return images, np.clip(images + noise * rng.normal(size=shape), 0, 1)


def test_psnr_is_a_mean_of_images_and_capped() -> None:
    images = np.zeros((3, 8, 8, 1))
    reconstructions = np.sqrt(np.array([0.001, 0.01, 0.1])).reshape(3, 1, 1, 1) * np.ones_like(images)
    np.testing.assert_allclose(mse(images, reconstructions), [0.001, 0.01, 0.1])
    np.testing.assert_allclose(psnr(images, reconstructions), [30, 20, 10])
    assert psnr(images, reconstructions).mean() == pytest.approx(20.0)
    assert -10 * np.log10(mse(images, reconstructions).mean()) == pytest.approx(14.3, abs=0.05)
    np.testing.assert_array_equal(psnr(images, images), 100.0)


def test_ssim_of_constants_is_that_of_their_means() -> None:
    for a, b in ((0.2, 0.7), (0.0, 1.0), (0.5, 0.5)):
        expected = (2 * a * b + C1) / (a * a + b * b + C1)
        images = np.full((2, 16, 16, 3), a)
        np.testing.assert_allclose(ssim(images, np.full_like(images, b)), expected, rtol=1e-9)


@given(st.integers(0, 2**32), st.integers(8, 40), st.integers(8, 40), st.sampled_from([1, 3]))
@settings(max_examples=examples(50), deadline=None)
def test_similarities_are_symmetric_and_1_of_the_same(seed: int, height: int, width: int, channels: int) -> None:
    images, others = pair((2, height, width, channels), 0.3, seed)
    for metric in (ssim, ms_ssim):
        np.testing.assert_allclose(metric(images, images), 1, rtol=1e-9)
        np.testing.assert_allclose(metric(images, others), metric(others, images), rtol=1e-9)
        assert metric(images, others).max() < 1
        np.testing.assert_allclose(metric(images[::-1], others[::-1]), metric(images, others)[::-1], rtol=1e-12)


@pytest.mark.parametrize(("side", "channels"), [(11, 1), (28, 1), (33, 3), (64, 3)])
def test_ssim_and_ms_ssim_are_tensorflows(side: int, channels: int) -> None:
    images, others = pair((3, side, side + 2, channels))
    tensors = [tf.constant(values, tf.float32) for values in (images, others)]
    np.testing.assert_allclose(ssim(images, others), tf.image.ssim(*tensors, max_val=1.0), atol=1e-5)
    weights = SCALE_WEIGHTS[: scales_for(side, side + 2)]
    weights = [weight / sum(weights) for weight in weights]
    expected = tf.image.ssim_multiscale(*tensors, max_val=1.0, power_factors=weights)
    np.testing.assert_allclose(ms_ssim(images, others), expected, atol=1e-5)


def test_contrast_that_is_inverted_counts_as_none() -> None:
    images, _ = pair((2, 28, 28, 1))
    np.testing.assert_array_equal(ms_ssim(images, 1 - images), 0.0)
    assert ssim(images, 1 - images).max() < 0


def test_small_images_have_a_smaller_window_and_fewer_scales_which_the_name_says() -> None:
    assert [window_for(side, 99) for side in (8, 9, 10, 11, 28)] == [7, 9, 9, 11, 11]
    assert [scales_for(side, 200) for side in (8, 11, 20, 21, 28, 40, 41, 64, 81, 160, 161, 500)] == [
        1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5
    ]  # fmt: skip
    assert ms_ssim_name(28, 28) == "ms_ssim[2 scales]"
    assert ms_ssim_name(8, 8) == "ms_ssim[1 scale]"
    images, others = pair((2, 8, 8, 1))
    windows = tf.image.ssim(
        tf.constant(images, tf.float32), tf.constant(others, tf.float32), 1.0, filter_size=7, filter_sigma=1.5
    )
    np.testing.assert_allclose(ssim(images, others), windows, atol=1e-5)


def test_memory_is_bounded_by_blocks_which_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, others = pair((7, 24, 24, 1))
    whole = [metric(images, others) for metric in (mse, psnr, ssim, ms_ssim)]
    monkeypatch.setattr(reconstruction, "BLOCK_VALUES", 2 * 24 * 24)
    for metric, expected in zip((mse, psnr, ssim, ms_ssim), whole, strict=True):
        np.testing.assert_array_equal(metric(images, others), expected)


def test_what_cannot_be_compared_is_refused() -> None:
    images = np.zeros((2, 8, 8, 1))
    with pytest.raises(UserError, match="of one shape"):
        mse(images, images[:1])
    with pytest.raises(UserError, match="a pixel is NaN"):
        ssim(images, images + np.nan)
