"""Codes with probabilities that are trained."""

import math

import keras
import tensorflow as tf

from vae_runner.distributions.codes import WeighedCodes
from vae_runner.priors.base import Encoding, PosteriorFamily, Prior, code_family

NAME = "learned_categorical"


class LearnedCategorical(Prior, keras.layers.Layer):
    """p(z) with a probability for every code of the posterior at every position, by itself; all begin equal."""

    symbol = "weighed codes"
    description = "codes with learned probabilities"

    def create_weights_for(
        self,
        posterior: PosteriorFamily,
        image_shape: tuple[int, int, int],
        latent_shape: tuple[int, ...],
        classes: int,
    ) -> None:
        """Create a logit for each code at each position.

        Raises:
            UserError: the posterior has no codes.
        """
        family = code_family(posterior, NAME)
        z_size = math.prod(posterior.z_shape((math.prod(latent_shape),)))
        shape = (family.positions(z_size), family.codes)
        self._logits = self.add_weight(shape=shape, initializer="zeros", dtype="float32", name="logits")

    def distribution(self, autoencoder: Encoding, labels: tf.Tensor | None = None) -> WeighedCodes:
        """Return the distribution over codes."""
        posterior = code_family(autoencoder.posterior, NAME)
        return WeighedCodes(self._logits.value, posterior.embed, posterior.one_hots)
