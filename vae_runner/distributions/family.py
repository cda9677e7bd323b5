"""What posteriors, priors and likelihoods have in common: a family makes distributions of what networks give."""

from collections.abc import Sequence

import tensorflow as tf


class Family:
    """A family of distributions. One with weights of its own is a `keras.layers.Layer` too, which tracks them.

    They are trained, checkpointed and saved like those of the networks.
    """

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """Return the weights; none where the class is no layer, whichever of its base classes comes first."""
        return getattr(super(), "variables", ())

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """Return the weights that the optimizer updates."""
        return getattr(super(), "trainable_variables", ())
