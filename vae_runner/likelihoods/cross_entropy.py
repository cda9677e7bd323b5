"""The cross-entropy of grey images, which many tutorials train with; no density."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions import bernoulli
from vae_runner.likelihoods.base import LogitLikelihood


class CrossEntropy(LogitLikelihood):
    """−Σ x log p + (1 − x) log(1 − p) for pixels x in [0, 1].

    That is the mean of a Bernoulli likelihood's −log p(b|z) over binary images b drawn with x as probabilities.
    """

    measure = None

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> bernoulli.CrossEntropy:
        """Return what the errors of a batch's images are taken from."""
        return bernoulli.CrossEntropy(parameters["logits"])
