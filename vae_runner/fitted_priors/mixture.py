"""A mixture of Gaussians with full covariances (Ghosh et al., 2020, section 4)."""

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from vae_runner.distributions.mixture import FullGaussianMixture
from vae_runner.errors import UserError
from vae_runner.fitted_priors.base import Arrays, FittedPrior, Latents, Report, Space, Standard, Values, check_arrays

CHOICES = (1, 2, 5, 10, 20, 50)  # numbers of components; 10 is the paper's
MAX_ITERATIONS = 200
VARIANCE_FLOOR = 1e-6  # of latents whose variances are 1


@dataclass(frozen=True)
class FittedMixture(FittedPrior):
    """Σ weight · N(mean, scale scaleᵀ), as scikit-learn fits it by expectation maximisation, from k-means on."""

    weights: Latents  # [components]
    means: Latents  # [components, latent]
    scales: Latents  # [components, latent, latent]: lower triangular

    @classmethod
    def fit(cls, space: Space, values: Values, held_out: Values, report: Report, components: int = 0) -> Self:
        """Return the mixture of so many components.

        Where these are 0, it is the number in `CHOICES` with which `held_out` latents are most likely: larger ones are
        tried as long as that helps.

        Raises:
            UserError: there are fewer latents than components.
        """
        if components > len(values):
            raise UserError(f"--components {components} are more than there are embeddings to fit, {len(values)}")
        standard = Standard.of(values)
        fitted, others = (standard.standardized(part).astype(np.float64) for part in (values, held_out))
        choices = [components] if components else [number for number in CHOICES if number <= len(values)]
        tried: list[tuple[float, GaussianMixture]] = []
        for number in choices:
            report(len(tried) / len(choices))
            mixture = GaussianMixture(number, reg_covar=VARIANCE_FLOOR, max_iter=MAX_ITERATIONS, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(fitted)
            tried.append((mixture.score(others), mixture))
            if len(tried) > 1 and tried[-1][0] <= tried[-2][0]:
                break
        report(1.0)
        _, best = max(tried, key=lambda scored: scored[0])
        scales = np.linalg.cholesky(best.covariances_) * standard.scale[:, np.newaxis]
        means = best.means_ * standard.scale + standard.shift
        return cls(*(array.astype(np.float32) for array in (best.weights_, means, scales)))

    @classmethod
    def from_arrays(cls, space: Space, arrays: Arrays) -> Self:
        """Return the mixture that has these arrays."""
        (latent,) = space.shape
        count = arrays["weights"].size if "weights" in arrays else 0
        check_arrays(arrays, {"weights": (count,), "means": (count, latent), "scales": (count, latent, latent)})
        if not (np.all(arrays["weights"] >= 0) and np.any(arrays["weights"] > 0)):
            raise ValueError("its weights are no probabilities")
        return cls(*(arrays[name].astype(np.float32) for name in ("weights", "means", "scales")))

    @property
    def arrays(self) -> Arrays:
        """Return weights, means and scales."""
        return vars(self)

    @property
    def distribution(self) -> FullGaussianMixture:
        """Return the mixture."""
        return FullGaussianMixture(
            tf.math.log(tf.constant(self.weights)), tf.constant(self.means), tf.constant(self.scales)
        )

    @property
    def symbol(self) -> str:
        """Return what it is a mixture of."""
        count = len(self.weights)
        return "fitted Gaussian" if count == 1 else f"fitted mixture of {count} Gaussians"
