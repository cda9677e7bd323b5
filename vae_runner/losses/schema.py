"""The losses that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component


@dataclass
class AeConfig(Built):
    """The plain autoencoder's loss."""

    reconstruction_weight: float | None = key(None, minimum=0)


@dataclass
class VaeConfig(AeConfig):
    """The variational autoencoder's loss."""

    kl_weight: float = key(1.0, minimum=0)
    kl_warmup_epochs: float = key(0.0, minimum=0, unit="epochs")


SHOWN = "reconstruction_weight"
COMPONENTS = (
    Component("loss", "vae", "vae_runner.losses.elbo.Elbo", VaeConfig, f"{SHOWN} kl_weight kl_warmup_epochs"),
    Component("loss", "ae", "vae_runner.losses.reconstruction.Reconstruction", AeConfig, SHOWN),
)
