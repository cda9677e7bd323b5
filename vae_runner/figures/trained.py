"""What figures are drawn of. Each figure is a function from a `Trained` to a matplotlib Figure.

To add one: a function here, and a line in conf/figures/default.yaml. It returns None where it does not apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Split
from vae_runner.evaluation.embeddings import Parameters, posterior_of
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.training.noise import NumpyNoise

EMBEDDED_IMAGES = 5000


@dataclass(frozen=True)
class Trained:
    """What a figure may look at."""

    autoencoder: Autoencoder
    test: Split
    label_names: Sequence[str]
    history: Sequence[Mapping[str, float]]  # the rows of metrics.csv so far
    epoch: int
    seed: int

    @property
    def embedded(self) -> Split:
        """Return the test images that `posterior` is of: the first 5,000."""
        return self.test.first(EMBEDDED_IMAGES)

    @cached_property
    def posterior(self) -> Parameters:
        """Return the posterior's parameters of the `embedded` images, each float32 `[n, latent]`."""
        return posterior_of(self.autoencoder, self.embedded.images)

    def random(self, purpose: int) -> np.random.Generator:
        """Return a generator of random numbers for one purpose, the same in every epoch."""
        return np.random.default_rng([self.seed, purpose])

    def prior_draws(self, purpose: int, count: int) -> NDArray[np.float32]:
        """Return `count` draws of the prior, float32 `[count, latent]`, the same in every epoch."""
        return np.asarray(self.autoencoder.latent_prior().sample(NumpyNoise(self.random(purpose), count)))

    def label(self, index: int) -> str:
        """Return the name of a test image's class; "" where the images have none."""
        return "" if self.test.labels is None else str(self.label_names[self.test.labels[index]])
