"""How far two images are from each other in the features of a Keras model of the user's."""

from functools import cached_property

import keras
import tensorflow as tf

from vae_runner.errors import UserError
from vae_runner.models.features import read_network, weights_hash

KEY = "perceptual_model"  # of the loss: what names the network
NEAR_ZERO = 1e-10


class PerceptualError:
    """Σ over layers of the mean over positions of ‖f(x) − f(x̂)‖², where features f are normalised at each position.

    That is the distance of Zhang et al. (2018: LPIPS, equation 1), with equal weights in place of learned ones. The
    features are what the layers with weights give: "all" of them, or the "last". The network stays as it is.

    This is no Keras layer, so that its weights are none of the loss's variables: checkpoints have their hash alone.
    """

    def __init__(self, file: str, image_shape: tuple[int, int, int], layers: str) -> None:
        """Read the network.

        Raises:
            UserError: there is none in the file, it needs code of its own, or it does not take images of this shape.
        """
        self.network = read_network(f"loss.{KEY}", file, image_shape)
        outputs = [layer.output for layer in self.network.layers if layer.weights]
        if not outputs:
            raise UserError(f"loss.{KEY}={file} has no layer with weights: give a trained model")
        self._layers = keras.Model(self.network.inputs, outputs if layers == "all" else outputs[-1:])

    @cached_property
    def weights_hash(self) -> str:
        """Return a hash of the network's weights."""
        return weights_hash(self.network)

    def __call__(self, images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """Return the mean error of pairs of images in [0, 1], `[batch, height, width, channels]`: a scalar."""
        total = tf.constant(0.0)
        for x, y in zip(self._features(images), self._features(others), strict=True):
            squares = tf.reduce_sum(tf.math.squared_difference(x, y), axis=-1)
            total += tf.reduce_mean(squares)
        return total

    def _features(self, images: tf.Tensor) -> list[tf.Tensor]:
        features = keras.tree.flatten(self._layers(tf.cast(images, tf.float32), training=False))
        return [tf.math.l2_normalize(tf.cast(of, tf.float32), axis=-1, epsilon=NEAR_ZERO) for of in features]
