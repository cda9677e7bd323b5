"""How far two images are from each other in the features of a Keras model of the user's."""

import zipfile
from pathlib import Path

import keras
import tensorflow as tf

from vae_runner.errors import UserError, first_line

NEAR_ZERO = 1e-10


class PerceptualError(keras.layers.Layer):
    """Σ over layers of the mean over positions of ‖f(x) − f(x̂)‖², where features f are normalised at each position.

    That is the distance of Zhang et al. (2018: LPIPS, equation 1), with equal weights in place of learned ones. The
    features are what the layers with weights give: "all" of them, or the "last". The model stays as it is.
    """

    def __init__(self, file: str, image_shape: tuple[int, int, int], layers: str) -> None:
        """Read the model.

        Raises:
            UserError: there is none in the file, it needs code of its own, or it does not take images of this shape.
        """
        super().__init__(trainable=False, dtype="float32")
        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"loss.perceptual_model={file}: there is no such file: give a model that Keras has saved")
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"loss.perceptual_model={file} cannot be read ({first_line(error)}): give a .keras file, as model.save "
                "writes it, of a model of Keras's own layers"
            ) from error
        taken = [tuple(of.shape[1:]) for of in model.inputs]
        if len(taken) != 1 or not _fits(image_shape, taken[0]):
            raise UserError(
                f"loss.perceptual_model={file} takes {' and '.join(map(str, taken))}, and the images are "
                f"{image_shape}: give a model whose one input is such an image, with pixels in [0, 1]"
            )
        outputs = [layer.output for layer in model.layers if layer.weights]
        if not outputs:
            raise UserError(f"loss.perceptual_model={file} has no layer with weights: give a trained model")
        self.model = keras.Model(model.inputs, outputs if layers == "all" else outputs[-1:])
        self.model.trainable = False

    def call(self, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Return the mean error of pairs of images in [0, 1], `[batch, height, width, channels]`: a scalar."""
        total = tf.constant(0.0)
        for x, y in zip(self._features(images), self._features(others), strict=True):
            squares = tf.reduce_sum(tf.math.squared_difference(x, y), axis=-1)
            total += tf.reduce_mean(squares)
        return total

    def _features(self, images: tf.Tensor) -> list[tf.Tensor]:
        features = keras.tree.flatten(self.model(images, training=False))
        return [tf.math.l2_normalize(tf.cast(of, tf.float32), axis=-1, epsilon=NEAR_ZERO) for of in features]


def _fits(image_shape: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    """Return whether a model that takes this shape, None for any number, takes images."""
    return len(taken) == 3 and all(of in (side, None) for side, of in zip(image_shape, taken, strict=True))
