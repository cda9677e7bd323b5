"""The multi-scale structural similarity as a pseudo-likelihood."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.structural_similarity import StructuralSimilarity
from vae_runner.likelihoods.base import Likelihood, PixelParameter, logit


class MsSsim(Likelihood):
    """1 − MS-SSIM (Wang et al., 2003), without a density: its weight is a choice (Snell et al., 2017).

    100 is that of pythae's script for MNIST, which weighs the KL term by 0.01 instead.
    """

    weight = 100.0
    measure = None

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return a mean in [0, 1]."""
        return {"mean": PixelParameter(channels, "sigmoid")}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> StructuralSimilarity:
        """Return the pseudo-likelihoods of a batch, of means float32 `[batch, height, width, channels]`."""
        return StructuralSimilarity(parameters["mean"])

    def output_bias(self, mean: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return what the sigmoid maps to mean pixels."""
        return {"mean": logit(mean)}
