"""The learning-rate schedules that a run can choose, early stopping and checkpoints, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component, Keys


@dataclass
class ConstantConfig(Built):
    """The learning rate stays what it is."""

    _partial_: bool = True
    warmup_epochs: float = key(0.0, minimum=0, unit="epochs")


@dataclass
class CosineConfig(ConstantConfig):
    """The learning rate falls along half a cosine."""

    final_factor: float = key(0.0, minimum=0, maximum=1)


@dataclass
class ExponentialConfig(ConstantConfig):
    """The learning rate is multiplied by `decay` every epoch."""

    decay: float = key(0.95, above=0, maximum=1)


@dataclass
class EarlyStoppingConfig(Keys):
    """When to stop before the last epoch."""

    metric: str | None = None
    patience: int = key(5, minimum=1, unit="epochs")
    min_delta: float = key(0.0, minimum=0)


@dataclass
class CheckpointConfig(Keys):
    """When checkpoints are written, and which are kept."""

    every: int = key(1, minimum=0, unit="epochs")
    every_minutes: float = key(10.0, minimum=0, unit="minutes")
    keep: int = key(2, minimum=1, unit="checkpoints")
    metric: str | None = "test/loss"


SHOWN = "warmup_epochs"
COMPONENTS = (
    Component("schedule", "constant", "vae_runner.training.schedules.constant", ConstantConfig, SHOWN),
    Component("schedule", "cosine", "vae_runner.training.schedules.cosine", CosineConfig, SHOWN),
    Component("schedule", "exponential", "vae_runner.training.schedules.exponential", ExponentialConfig, SHOWN),
)
