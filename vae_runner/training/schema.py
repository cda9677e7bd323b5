"""The learning-rate schedules that a run can choose, early stopping and checkpoints, with their keys."""

import math
from dataclasses import dataclass, field

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component, Keys
from vae_runner.errors import UserError


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
class StepsConfig(ConstantConfig):
    """The learning rate is multiplied by `factor` after each of `epochs`."""

    epochs: list[float] = field(default_factory=lambda: [200.0, 350.0])
    factor: float = key(0.630957, above=0, maximum=1)  # 10^(−1/5)

    def check(self) -> None:
        """Refuse what are no numbers of epochs."""
        if not self.epochs or not all(0 < epoch < math.inf for epoch in self.epochs):
            raise UserError(f"schedule.epochs={self.epochs}: must be a list of numbers greater than 0 (epochs)")


@dataclass
class EarlyStoppingConfig(Keys):
    """When to stop before the last epoch."""

    metric: str | None = None
    patience: int = key(5, minimum=1, unit="epochs")
    min_delta: float = key(0.0, minimum=0)


@dataclass
class CheckpointConfig(Keys):
    """When checkpoints are written, which are kept, and of which the models are."""

    models: str = key("last", choices=("best", "last", "both"))  # as runs did that have no such key
    every: int = key(1, minimum=0, unit="epochs")
    every_minutes: float = key(10.0, minimum=0, unit="minutes")
    keep: int = key(2, minimum=1, unit="checkpoints")
    metric: str | None = "validation/loss"


SHOWN = "warmup_epochs"
COMPONENTS = (
    Component("schedule", "constant", "vae_runner.training.schedules.constant", ConstantConfig, SHOWN),
    Component("schedule", "cosine", "vae_runner.training.schedules.cosine", CosineConfig, SHOWN),
    Component("schedule", "exponential", "vae_runner.training.schedules.exponential", ExponentialConfig, SHOWN),
    Component("schedule", "steps", "vae_runner.training.schedules.steps", StepsConfig, "warmup_epochs epochs factor"),
)
