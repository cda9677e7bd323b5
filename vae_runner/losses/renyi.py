"""The variational Rényi bound."""

import math
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.losses.base import Batch, Loss
from vae_runner.losses.importance_weighted import importance_weights, warn_of_mixed_draws
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Renyi(Loss):
    """−1 / (1 − α) · E log 1/K Σ w_k^(1 − α) over K draws (Li & Turner, 2016, equation 6).

    α = 1 is the ELBO and α = 0 the importance-weighted bound; a negative α is no bound.
    """

    samples: int = 5
    alpha: float = 0.5

    terms: ClassVar = ("reconstruction", "kl")
    needs_density: ClassVar = True
    needs_likelihood_density: ClassVar = True

    def check(self, autoencoder: Autoencoder) -> None:
        """Warn of a decoder that mixes the draws."""
        warn_of_mixed_draws(autoencoder, self.draws)

    @property
    def draws(self) -> int:
        """Return how many z of each image are decoded."""
        return self.samples

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the negative bound, and the ELBO's terms: means over the draws."""
        weights = importance_weights(autoencoder, batch, self.samples, training)
        if self.alpha == 1:
            bound = tf.reduce_mean(weights.log_w, axis=1)
        else:
            power = 1 - self.alpha
            bound = (tf.reduce_logsumexp(power * weights.log_w, axis=1) - math.log(self.samples)) / power
        return -tf.reduce_mean(bound), weights.terms()
