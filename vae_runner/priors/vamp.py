"""A mixture of the posteriors of learned images."""

import keras
import tensorflow as tf

from vae_runner.distributions.base import Distribution
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.distributions.mixture import EqualMixture, GaussianMixture
from vae_runner.errors import UserError
from vae_runner.priors.base import Encoding, Prior


class Vamp(Prior, keras.layers.Layer):
    """p(z) = 1/M · Σ q(z|u) over M pseudo-inputs u: learned images (Tomczak & Welling, 2018, equation 9).

    Where the encoder is conditional, the pseudo-inputs are of the classes in turn.
    """

    symbol = "VampPrior"

    def __init__(self, pseudo_inputs: int) -> None:
        super().__init__()
        self._count = self.encoded_images = self.components = pseudo_inputs

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the pseudo-inputs, nearly black, as in the paper's code."""
        nearly_black = keras.initializers.RandomNormal(mean=0.05, stddev=0.01)
        shape = (self._count, *image_shape)
        self._classes = classes
        self._images = self.add_weight(shape=shape, initializer=nearly_black, dtype="float32", name="pseudo_inputs")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> Distribution:
        """Return the mixture. The pseudo-inputs are encoded in inference, so that no moving average changes.

        Raises:
            UserError: the posterior's density is not known at every z.
        """
        posterior = autoencoder.posterior
        if not (posterior.has_density and posterior.has_density_everywhere):
            raise UserError(
                "prior=vamp takes the posterior's density at any z, which this posterior has at its own draws only, or "
                "not at all: choose posterior=gaussian"
            )
        classes_in_turn = tf.range(self._count) % self._classes if self._classes else None
        parameters = autoencoder.parameters(tf.clip_by_value(self._images.value, 0.0, 1.0), classes_in_turn)
        components = posterior.distribution(parameters)
        if isinstance(components, DiagonalGaussian):  # whose pairs of value and component need no copies
            return GaussianMixture(tf.zeros([self._count]), components.mean, components.log_var)
        return EqualMixture(posterior.distribution, parameters)
