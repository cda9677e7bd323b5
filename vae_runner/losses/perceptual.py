"""How far two images are from each other in the features of a Keras model of the user's."""

import keras
import tensorflow as tf

from vae_runner.errors import UserError
from vae_runner.models.features import read_network

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
        model = read_network("loss.perceptual_model", file, image_shape)
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
