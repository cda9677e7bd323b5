"""How far two images are from each other in the features of a network."""

from functools import cached_property

import keras
import tensorflow as tf

from vae_runner.errors import UserError
from vae_runner.models.features import weights_hash

KEY = "perceptual_model"  # of the loss: what names the network
NEAR_ZERO = 1e-10


class PerceptualError:
    """Σ over layers of the mean over positions of ‖f(x) − f(x̂)‖², where features f are normalised at each position.

    That is the distance of Zhang et al. (2018: LPIPS, equation 1), with equal weights in place of learned ones. The
    features are what the layers with weights give: "all" of them, or the "last". The network stays as it is.

    This is no Keras layer, so that its weights are none of the loss's variables: checkpoints have their hash alone.
    """

    def __init__(self, network: keras.Model, layers: str) -> None:
        """Take a network of images in [0, 1].

        Raises:
            UserError: it has no layer with weights.
        """
        self.network = network
        outputs = [layer.output for layer in self.network.layers if layer.weights]
        if not outputs:
            raise UserError(f"the network of loss.{KEY} has no layer with weights: give a trained one")
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
