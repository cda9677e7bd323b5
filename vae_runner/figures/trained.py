"""What figures are drawn of. Each figure is a function from a `Trained` to a matplotlib Figure.

To add one: a function here, and a line in conf/figures/default.yaml. It returns None where it does not apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Split
from vae_runner.evaluation.embeddings import Labels, Parameters, posterior_of
from vae_runner.figures.labels import plain_text
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import CodePosterior
from vae_runner.training.noise import NumpyNoise

EMBEDDED_IMAGES = 5000
MAX_CLASSES = 20  # of which there is a row of samples
LONGEST_CLASS = 14  # letters beside a row


class Cells(NamedTuple):
    """The places of a grid of decoded images."""

    number: int
    labels: Labels  # their classes, [number]; None: the images are of no class
    row_labels: list[str]  # the names of the rows' classes
    by_class: str  # what a title says of them


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
        return posterior_of(self.autoencoder, self.embedded.images, self.given_labels)

    @property
    def has_codes(self) -> bool:
        """Return whether z is made of codes, between which there is nothing."""
        return isinstance(self.autoencoder.posterior, CodePosterior)

    def random(self, purpose: int) -> np.random.Generator:
        """Return a generator of random numbers for one purpose, the same in every epoch."""
        return np.random.default_rng([self.seed, purpose])

    def prior_draws(self, purpose: int, cells: Cells) -> NDArray[np.float32]:
        """Return draws of the prior, float32 `[number, latent]`, the same in every epoch."""
        noise = NumpyNoise(self.random(purpose), cells.number)
        return np.asarray(self.autoencoder.latent_prior(cells.labels).sample(noise))

    @property
    def given_labels(self) -> Labels:
        """Return the classes of the `embedded` images where networks or prior depend on them, else None."""
        return self.embedded.labels if self.autoencoder.classes else None

    def cells(self, rows: int, columns: int) -> Cells:
        """Return the places of a grid: so many rows, or where classes matter a row for each, the first 20."""
        if not self.autoencoder.classes:
            return Cells(rows * columns, None, [], "")
        classes = np.arange(min(self.autoencoder.classes, MAX_CLASSES))
        names = [plain_text(self.class_name(int(label)), LONGEST_CLASS) for label in classes]
        return Cells(len(classes) * columns, np.repeat(classes, columns), names, ", a class a row")

    def first_class(self) -> tuple[int, str]:
        """Return the class of the first test image, and what a title calls it; 0 and "" where none matters."""
        if self.given_labels is None:
            return 0, ""
        label = int(self.given_labels[0])
        return label, f"class {plain_text(self.class_name(label), LONGEST_CLASS)}"

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where the classes have no names."""
        return str(self.label_names[label]) if self.label_names else str(label)

    def label(self, index: int) -> str:
        """Return the name of a test image's class; "" where the images have none."""
        return "" if self.test.labels is None else str(self.label_names[self.test.labels[index]])
