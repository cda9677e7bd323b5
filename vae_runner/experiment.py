"""From a configuration to the parts of an experiment, and the checks that they fit each other."""

from typing import Any

import keras
from omegaconf import DictConfig

from vae_runner.config import build
from vae_runner.models.autoencoder import Autoencoder


def build_autoencoder(config: DictConfig, image_shape: tuple[int, int, int]) -> Autoencoder:
    """Return the autoencoder that a configuration describes, for images of this shape."""
    families = {name: build(config[name]) for name in ("posterior", "prior", "likelihood")}
    encoder, decoder = build(
        config.model, image_shape=image_shape, latent=config.latent, posterior=families["posterior"],
        likelihood=families["likelihood"],
    )  # fmt: skip
    return Autoencoder(encoder, decoder, **families)


def synchronize_normalization(autoencoder: Autoencoder, synchronized: bool) -> None:
    """Let batch normalisation take its moments over the images of all replicas, or of each replica alone."""
    for network in (autoencoder.encoder, autoencoder.decoder):
        for layer in _layers(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized


def _layers(network: keras.Model) -> list[Any]:
    """Return the layers of a network, those of networks in it too."""
    nested = (_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in network.layers)
    return [layer for layers in nested for layer in layers]
