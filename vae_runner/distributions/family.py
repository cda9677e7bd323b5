"""What posteriors, priors and likelihoods have in common: a family makes a distribution of what networks give."""

from typing import Any


class Family:
    """A family, which may have weights of its own: then it is a `keras.layers.Layer` too, which knows them.

    They are trained, checkpointed and saved like those of the networks.
    """

    @property
    def variables(self) -> Any:
        """The weights; none where the class is no layer, whichever of its base classes comes first."""
        return getattr(super(), "variables", ())

    @property
    def trainable_variables(self) -> Any:
        """Those that the optimizer updates."""
        return getattr(super(), "trainable_variables", ())
