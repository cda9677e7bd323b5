"""The multi-scale structural similarity as a pseudo-likelihood."""

from collections.abc import Mapping

import tensorflow as tf

from vae_runner.distributions.structural_similarity import StructuralSimilarity
from vae_runner.likelihoods.base import MeanLikelihood


class MsSsim(MeanLikelihood):
    """1 − MS-SSIM (Wang et al., 2003), without a density: its weight is a choice (Snell et al., 2017).

    100 is that of pythae's script for MNIST, which weighs the KL term by 0.01 instead.
    """

    weight = 100.0
    measure = None

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> StructuralSimilarity:
        """Return the pseudo-likelihoods of a batch, of means float32 `[batch, height, width, channels]`."""
        return StructuralSimilarity(parameters["mean"])
