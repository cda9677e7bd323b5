"""What posteriors, priors and likelihoods have in common: a family makes a distribution of what networks give."""

from typing import Any


class Family:
    """A family without weights of its own. One that has some is a `keras.layers.Layer` too, which tells them.

    They are trained, checkpointed and saved like those of the networks.
    """

    variables: Any = ()
    trainable_variables: Any = ()
