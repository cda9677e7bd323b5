"""How much of a set of codes is in use."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.distributions.codes import CodeDistribution
from vae_runner.evaluation.embeddings import Parameters
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import CodePosterior


def code_frequencies(autoencoder: Autoencoder, parameters: Parameters) -> NDArray[np.float64] | None:
    """Return the part of all positions that each code has, `[codes]`; None where z is no code.

    `parameters` are the posterior's of some images.
    """
    if not isinstance(autoencoder.posterior, CodePosterior):
        return None
    posterior = autoencoder.posterior.distribution({name: tf.constant(value) for name, value in parameters.items()})
    assert isinstance(posterior, CodeDistribution)
    counts = np.bincount(np.asarray(posterior.codes).ravel(), minlength=autoencoder.posterior.codes)
    return counts / counts.sum()
