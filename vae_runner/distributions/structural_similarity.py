"""Multi-scale structural similarity in place of a density."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from the finest (Wang et al., 2003, section 3.2)
WINDOW, DEVIATION = 11, 1.5  # pixels: side and standard deviation of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # for images whose range is 1 (Wang et al., 2004, section III.B)
FLOOR = 1e-4  # of a scale's similarity: a negative one has no real power, and the power of 0 no finite gradient


@dataclass(frozen=True)
class StructuralSimilarity:
    """A pseudo-likelihood of images: their mean, and how unlike it an image is in structure; no density."""

    mean: tf.Tensor  # float32 in [0, 1], [batch, height, width, channels]

    def error(self, images: tf.Tensor) -> tf.Tensor:
        """Return 1 − MS-SSIM of images and mean: `[batch]`, from 0 for equal ones to 1, or with a single scale to 2."""
        return 1 - ms_ssim(images, self.mean)


def scale_weights(side: int) -> NDArray[np.float64]:
    """Return the weights of the scales of an image whose shorter side has `side` pixels; they add up to 1.

    Each scale halves the sides of the one before. There are as many, up to 5, as leave the window within the image, and
    at least one.
    """
    scales = int(np.log2(max(side, WINDOW) / WINDOW)) + 1
    weights = np.array(WEIGHTS[:scales])
    return weights / weights.sum()


def ms_ssim(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the similarity of images x and y in [0, 1], `[batch, height, width, channels]`: `[batch]`.

    It is the mean over the channels of SSIM at the coarsest scale to the power of its weight, times contrast and
    structure alone at each finer one (Wang et al., 2003, equation 7). `tf.image.ssim_multiscale` computes the same
    values, but its gradient is NaN where contrasts are opposite, and XLA does not compile it for sides that are odd at
    some scale.
    """
    height, width, channels = x.shape[1:]
    weights = scale_weights(min(height, width))
    # Each channel is an image of its own.
    x, y = (tf.reshape(tf.transpose(image, [0, 3, 1, 2]), [-1, height, width, 1]) for image in (x, y))
    similarity = tf.ones_like(x[:, 0, 0, 0])
    for scale, weight in enumerate(weights.tolist()):
        if scale:
            x, y = (tf.nn.avg_pool2d(image, 2, 2, "SAME") for image in (x, y))
        luminance, contrast_and_structure = _compared(x, y)
        is_last = scale == len(weights) - 1
        of_windows = luminance * contrast_and_structure if is_last else contrast_and_structure
        of_scale = tf.reduce_mean(of_windows, axis=[1, 2, 3])
        # A single scale has the power 1, which a negative one has too: the gradient of a floor is 0.
        similarity *= of_scale if len(weights) == 1 else tf.maximum(of_scale, FLOOR) ** weight
    return tf.reduce_mean(tf.reshape(similarity, [-1, channels]), axis=1)


def _compared(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the two factors of SSIM, luminance and contrast with structure, in each window of grey images.

    The images are float32 `[n, height, width, 1]`, and so are the factors, with a row and a column for each window
    (Wang et al., 2004, equation 13).
    """
    height, width = x.shape[1:3]
    # An even window would have no pixel in its middle.
    side = min(WINDOW, (min(height, width) - 1) // 2 * 2 + 1)
    weights = np.exp(-0.5 * ((np.arange(side) - side // 2) / DEVIATION) ** 2)
    row = tf.constant(weights / weights.sum(), tf.float32, shape=[1, side, 1, 1])

    def blurred(values: tf.Tensor) -> tf.Tensor:
        across = tf.nn.conv2d(values, row, 1, "VALID")
        return tf.nn.conv2d(across, tf.transpose(row, [1, 0, 2, 3]), 1, "VALID")

    mean_x, mean_y = blurred(x), blurred(y)
    products, squares = 2 * mean_x * mean_y, tf.square(mean_x) + tf.square(mean_y)
    covariances = blurred(2 * x * y) - products
    variances = blurred(tf.square(x) + tf.square(y)) - squares
    return (products + C1) / (squares + C1), (covariances + C2) / (variances + C2)
