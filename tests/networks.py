"""Autoencoders and players put together by hand, as several rooms of the tests need them."""

import math
from types import ModuleType
from typing import Any

import keras

from vae_runner.likelihoods.base import Likelihood
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.losses.base import AUTOENCODER, Loss
from vae_runner.models import conv
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import Posterior
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.priors.base import Prior
from vae_runner.priors.normal import Normal
from vae_runner.training.inner import Player
from vae_runner.training.schedules import LearningRate, constant


def build(
    image_shape: tuple[int, int, int],
    latent: int = 2,
    posterior: Posterior | None = None,
    model: ModuleType = conv,
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
    classes: int = 0,
    **keys: Any,
) -> Autoencoder:
    """A model's networks between a posterior, by default a Gaussian one, the normal prior and the tutorial's error."""
    posterior, likelihood = posterior or Gaussian(), likelihood or MeanSquaredError()
    prior = prior or Normal()
    if classes:
        keys["classes"] = classes
    encoder, decoder = model.build(image_shape, latent, posterior, likelihood, **keys)
    latent_shape = (*decoder.inputs[0].shape[1:-1], latent)
    prior.create_weights_for(posterior, image_shape, latent_shape, classes)
    return Autoencoder(encoder, decoder, posterior, prior, likelihood, classes, math.prod(latent_shape))


def one_player(autoencoder: Autoencoder, optimizer: keras.optimizers.Optimizer) -> dict[str, Player]:
    """The autoencoder alone, with this optimizer, which is built."""
    variables = Loss().players(autoencoder)[AUTOENCODER]
    optimizer.build(variables)
    return {AUTOENCODER: Player(variables, optimizer, LearningRate(1, constant, 1, 1))}
