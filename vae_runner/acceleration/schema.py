"""The optimizers that a run can choose, with their keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component
from vae_runner.errors import UserError


@dataclass
class OptimizerConfig(Built):
    """What is done with the steps of any optimizer."""

    ema: float | None = key(None, minimum=0, below=1)
    skip_norm_above: float | None = key(None, above=0)


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam, AdamW and Adamax."""

    learning_rate: float = key(5e-4, above=0)
    beta_1: float = key(0.9, minimum=0, below=1)
    beta_2: float = key(0.999, minimum=0, below=1)
    epsilon: float = key(1e-7, above=0)
    weight_decay: float | None = key(None, minimum=0)
    clipnorm: float | None = key(None, above=0)
    clipvalue: float | None = key(None, above=0)
    global_clipnorm: float | None = key(None, above=0)


@dataclass
class AdamWConfig(AdamConfig):
    """AdamW, whose weight decay is its point."""

    weight_decay: float = key(0.004, minimum=0)


@dataclass
class MuonConfig(AdamConfig):
    """Muon, and Adam for what is no matrix."""

    momentum: float = key(0.95, minimum=0, below=1)


@dataclass
class RMSpropConfig(OptimizerConfig):
    """RMSprop."""

    learning_rate: float = key(1e-4, above=0)
    rho: float = key(0.9, minimum=0, below=1)
    momentum: float = key(0.0, minimum=0, below=1)
    epsilon: float = key(1e-7, above=0)
    weight_decay: float | None = key(None, minimum=0)
    clipnorm: float | None = key(None, above=0)
    clipvalue: float | None = key(None, above=0)
    global_clipnorm: float | None = key(None, above=0)


def check_clipping(optimizer: Mapping[str, object]) -> None:
    """Refuse several ways of clipping the gradient, of which Keras's optimizers take one."""
    given = [name for name in ("clipnorm", "global_clipnorm", "clipvalue") if optimizer.get(name) is not None]
    if len(given) > 1:
        raise UserError(f"optimizer.{given[0]} and optimizer.{given[1]} exclude each other: give one of them")


SHOWN = "learning_rate clipnorm global_clipnorm ema skip_norm_above"
COMPONENTS = (
    Component("optimizer", "adam", "vae_runner.acceleration.optimizers.Adam", AdamConfig, SHOWN),
    Component("optimizer", "adamw", "vae_runner.acceleration.optimizers.AdamW", AdamWConfig, SHOWN),
    Component("optimizer", "adamax", "vae_runner.acceleration.optimizers.Adamax", AdamConfig, SHOWN),
    Component("optimizer", "muon", "vae_runner.acceleration.optimizers.Muon", MuonConfig, SHOWN),
    Component("optimizer", "rmsprop", "vae_runner.acceleration.optimizers.RMSprop", RMSpropConfig, SHOWN),
)
