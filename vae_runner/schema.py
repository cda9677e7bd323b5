"""The configuration of a run, put together from the schemas of the rooms."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING

from vae_runner.acceleration import schema as acceleration
from vae_runner.acceleration.schema import check_clipping
from vae_runner.config import registry
from vae_runner.config.keys import key
from vae_runner.config.registry import Component, Keys, register
from vae_runner.datasets import schema as datasets
from vae_runner.figures import schema as figures
from vae_runner.figures.schema import FiguresConfig
from vae_runner.likelihoods import schema as likelihoods
from vae_runner.losses import schema as losses
from vae_runner.models import schema as models
from vae_runner.posteriors import schema as posteriors
from vae_runner.priors import schema as priors
from vae_runner.runtime import schema as runtime
from vae_runner.runtime.schema import HardwareConfig
from vae_runner.training import schema as training
from vae_runner.training.schema import CheckpointConfig, EarlyStoppingConfig

MAX_SEED = 2**32 - 1  # what NumPy's legacy seeding, and so Keras's, accepts


@dataclass
class SweepConfig(Keys):
    """What a sweep goes on with, and what it is judged by."""

    resume: bool = False
    dir: str | None = None
    metric: str = "test/loss"


@dataclass
class Config(Keys):
    """One run."""

    latent: int = key(2, minimum=1, maximum=65536, unit="dimensions")
    epochs: int = key(10, minimum=1)
    batch_size: int = key(128, minimum=1, unit="images")
    seed: int = key(0, minimum=0, maximum=MAX_SEED)
    data_dir: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    posterior: Any = MISSING
    prior: Any = MISSING
    likelihood: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    figures: FiguresConfig = field(default_factory=FiguresConfig)
    resume: str | None = None
    trust: list[str] = field(default_factory=list)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def check(self) -> None:
        """Refuse what no optimizer takes, whichever of Keras's it is."""
        check_clipping(self.optimizer if isinstance(self.optimizer, dict) else vars(self.optimizer))


register(
    *datasets.COMPONENTS,
    *models.COMPONENTS,
    *posteriors.COMPONENTS,
    *priors.COMPONENTS,
    *likelihoods.COMPONENTS,
    *losses.COMPONENTS,
    *acceleration.COMPONENTS,
    *training.COMPONENTS,
    *runtime.COMPONENTS,
    *figures.COMPONENTS,
    Component("sweep", "new", None, SweepConfig, ("dir", "metric")),
    Component("", "config", None, Config),
)


def register_schemas() -> None:
    """Make the schemas known to Hydra, under `schema/`, so that YAML files can name them."""
    store = ConfigStore.instance()
    for component in registry.components():
        store.store(group=f"schema/{component.group}".rstrip("/"), name=component.name, node=component.node)
    Plugins.instance()  # stores the presets of Hydra's plugins
    for kind, name in (
        ("launcher", "joblib"),
        ("launcher", "ray"),
        ("launcher", "submitit_local"),
        ("sweeper", "optuna"),
    ):
        # Of the same name as ours, which are built on them.
        stored = store.repo.get("hydra", {}).get(kind, {})
        if preset := stored.pop(f"{name}.yaml", None):
            stored[f"{name}_plugin.yaml"] = preset
