"""A Bernoulli variable for each pixel, for binary images."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import bernoulli
from vae_runner.likelihoods.base import LogitLikelihood


class Bernoulli(LogitLikelihood):
    """p(x|z) = Π sigmoid(logits)^x (1 − sigmoid(logits))^(1 − x) for pixels x in {0, 1}."""

    measure = "binary"

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> bernoulli.Bernoulli:
        """Return the variables of a batch's pixels."""
        return bernoulli.Bernoulli(parameters["logits"])
