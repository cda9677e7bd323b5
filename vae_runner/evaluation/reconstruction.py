"""How near reconstructions are to their images: MSE, PSNR, SSIM, MS-SSIM, each by image.

Images and reconstructions are in [0, 1], `[n, height, width, channels]`, and compared in float64; the reconstruction is
that of the posterior's mean, clipped to [0, 1], and not rounded to 8 bits.

SSIM has two conventions. This is the Gaussian one (Wang et al., 2004): a window of 11 × 11 with σ = 1.5, only where it
lies inside the image, population covariances, as in TensorFlow, and in scikit-image with `gaussian_weights=True,
sigma=1.5, use_sample_covariance=False`. scikit-image's default, 7 × 7 uniform with sample covariances, differs by 0.01
to 0.03.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d

from vae_runner.errors import UserError, counted

Floats = NDArray[np.float64]

PSNR_CAP = 100.0  # decibels, where an image and its reconstruction are the same
WINDOW = 11  # pixels, the side of SSIM's window
SIGMA = 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2  # for images in [0, 1]
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM (Wang et al., 2003), finest first
BLOCK_VALUES = 1 << 22  # of images that are compared at once


def mse(images: ArrayLike, reconstructions: ArrayLike) -> Floats:
    """Return the mean squared difference over pixels and channels: `[n]`."""
    return np.concatenate([np.mean(np.square(x - y), axis=(1, 2, 3)) for x, y in _blocks(images, reconstructions)])


def psnr(images: ArrayLike, reconstructions: ArrayLike) -> Floats:
    """Return 10 log₁₀(1 / MSE), at most 100: `[n]`, in decibels.

    The mean over images is not that of the mean MSE: of the errors 0.001, 0.01 and 0.1 it is 20.0, and not 14.3.
    """
    error = mse(images, reconstructions)
    return -10 * np.log10(np.maximum(error, 10 ** (-PSNR_CAP / 10)))


def window_for(height: int, width: int) -> int:
    """Return the side of SSIM's window: 11, or the greatest odd number that fits a smaller image."""
    smaller = min(height, width)
    return min(WINDOW, smaller - 1 + smaller % 2)


def ssim(images: ArrayLike, reconstructions: ArrayLike) -> Floats:
    """Return the structural similarity: `[n]`, at most 1.

    ((2μμ' + C1)(2σ_xy + C2)) / ((μ² + μ'² + C1)(σ² + σ'² + C2)), the mean over windows and channels. The window is
    `window_for` the images' size: 7 × 7 of the 8 × 8 digits, which is to be said beside the number.
    """
    blocks = _blocks(images, reconstructions)
    return np.concatenate([np.mean(_similarity(x, y)[0], axis=(1, 2, 3)) for x, y in blocks])


def scales_for(height: int, width: int) -> int:
    """Return how many scales of MS-SSIM fit: M with 10 · 2^(M − 1) + 1 ≤ the smaller side, at most 5; at least 1."""
    fitting = (min(height, width) - 1) // (WINDOW - 1)
    return min(max(fitting, 1).bit_length(), len(SCALE_WEIGHTS))


def ms_ssim_name(height: int, width: int) -> str:
    """Return the metric's name with its number of scales, as `ms_ssim[2 scales]` of 28 × 28 images."""
    scales = scales_for(height, width)
    return f"ms_ssim[{counted(scales, 'scale')}]"


def ms_ssim(images: ArrayLike, reconstructions: ArrayLike) -> Floats:
    """Return the multi-scale structural similarity (Wang et al., 2003) of as many scales as fit: `[n]`.

    It is Π contrast_m^w_m · SSIM_M^w_M, each a mean over windows, negative ones cut to 0, and then the mean over
    channels. The weights of the scales that fit are divided by their sum. Images are halved by means over 2 × 2 pixels;
    where a side is odd, its last pixel is repeated.
    """
    results = []
    for x, y in _blocks(images, reconstructions):
        scales = scales_for(*x.shape[1:3])
        weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
        product = np.ones((len(x), x.shape[3]))
        for scale, weight in enumerate(weights):
            if scale:
                x, y = _halved(x), _halved(y)
            similarity, contrast = _similarity(x, y)
            factor = similarity if scale == scales - 1 else contrast
            product *= np.maximum(factor.mean(axis=(1, 2)), 0) ** weight
        results.append(product.mean(axis=1))
    return np.concatenate(results)


def _similarity(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return SSIM and its factor of contrast and structure for each window: `[n, height, width, channels]`."""
    side = window_for(*x.shape[1:3])
    kernel = np.exp(-0.5 * np.square((np.arange(side) - side // 2) / SIGMA))
    kernel /= kernel.sum()

    def local(values: Floats) -> Floats:
        rows = correlate1d(values, kernel, axis=1)[:, side // 2 : values.shape[1] - side // 2]
        return correlate1d(rows, kernel, axis=2)[:, :, side // 2 : values.shape[2] - side // 2]

    mean_x, mean_y = local(x), local(y)
    covariance = local(x * y) - mean_x * mean_y
    variances = local(x * x) - mean_x**2 + local(y * y) - mean_y**2
    contrast = (2 * covariance + C2) / (variances + C2)
    return (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1) * contrast, contrast


def _halved(values: Floats) -> Floats:
    """Return images of half the size, each pixel a mean over 2 × 2."""
    height, width = values.shape[1:3]
    padded = np.pad(values, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="symmetric")
    return (padded[:, ::2, ::2] + padded[:, 1::2, ::2] + padded[:, ::2, 1::2] + padded[:, 1::2, 1::2]) / 4


def _blocks(images: ArrayLike, reconstructions: ArrayLike) -> Iterator[tuple[Floats, Floats]]:
    """Yield some images and their reconstructions at a time, as float64.

    Raises:
        UserError: there are none, their shapes differ, or one has a pixel that is NaN.
    """
    images, reconstructions = np.asarray(images), np.asarray(reconstructions)
    if images.shape != reconstructions.shape or images.ndim != 4 or not len(images):
        raise UserError(
            f"reconstruction: images of shape {images.shape} and reconstructions of shape {reconstructions.shape}: "
            "both must be [n, height, width, channels], of one shape, with at least one image"
        )
    size = max(BLOCK_VALUES // math.prod(images.shape[1:]), 1)
    for first in range(0, len(images), size):
        x, y = (values[first : first + size].astype(np.float64) for values in (images, reconstructions))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise UserError(
                "reconstruction: a pixel is NaN or infinite: the network's weights are NaN; evaluate an earlier "
                "checkpoint"
            )
        yield x, y
