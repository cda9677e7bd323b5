"""The configuration of a run, put together from the schemas of the rooms."""

from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Self

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from vae_runner.acceleration import schema as acceleration
from vae_runner.compat.hydra import rename_plugin_presets
from vae_runner.config import registry
from vae_runner.config.composition import CLASSIFIER, of_the_run
from vae_runner.config.instantiation import keys_of
from vae_runner.config.keys import Content, Mixed, key
from vae_runner.config.registry import Built, Component, Keys, register
from vae_runner.datasets import schema as datasets
from vae_runner.errors import UnfitError, UserError, did_you_mean
from vae_runner.evaluation import schema as evaluation
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.figures import schema as figures
from vae_runner.figures.schema import FiguresConfig
from vae_runner.likelihoods import schema as likelihoods
from vae_runner.losses import schema as losses
from vae_runner.models import schema as models
from vae_runner.posteriors import schema as posteriors
from vae_runner.priors import schema as priors
from vae_runner.runtime import schema as runtime
from vae_runner.training import schema as training
from vae_runner.training.batch_size import AUTO

MAX_SEED = 2**32 - 1  # what NumPy's legacy seeding, and so Keras's, accepts

SEARCH = "hydra_plugins.vae_runner.Search"  # what Hydra knows `sweeps.search.Search` as

Part = Mixed[Built | dict[str, object]]  # of the schema of a component of ours; as its YAML has it, of any other


@dataclass
class Config(Keys):
    """One run."""

    latent: int = key(2, minimum=1, maximum=65536, unit="dimensions")
    epochs: int = key(10, minimum=1)
    batch_size: Mixed[int | str] = key(128, minimum=1, unit="images", word=AUTO)
    seed: int = key(0, minimum=0, maximum=MAX_SEED)
    data_dir: str = MISSING
    init_from: str | None = None
    init_parts: list[str] | None = None
    profile: bool = False
    dataset: Part = MISSING
    model: Part = MISSING
    posterior: Part = MISSING
    prior: Part = MISSING
    likelihood: Part = MISSING
    loss: Part = MISSING
    optimizer: Part = MISSING
    schedule: Part = MISSING
    early_stopping: training.EarlyStoppingConfig = field(default_factory=training.EarlyStoppingConfig)
    checkpoint: training.CheckpointConfig = field(default_factory=training.CheckpointConfig)
    hardware: runtime.HardwareConfig = field(default_factory=runtime.HardwareConfig)
    figures: FiguresConfig = field(default_factory=FiguresConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """Return what a checked configuration says of the run, as objects: a part without a schema is a dictionary."""
        parts = OmegaConf.to_object(of_the_run(config))
        assert isinstance(parts, dict)
        return cls(**{str(name): part for name, part in parts.items()})

    @property
    def content(self) -> Content:
        """The configuration in plain dictionaries, as config.yaml has it."""
        return asdict(self)

    @property
    def images_per_step(self) -> int:
        """The batch size: a number, once the run has chosen one in place of the word."""
        assert isinstance(self.batch_size, int), "the run has chosen its batch size"
        return self.batch_size

    def check(self) -> None:
        """Refuse what no optimizer takes, too few latent dimensions, and images without the labels that are needed."""
        if self.batch_size == AUTO and self.hardware.distribution == "multi_worker":
            raise UserError(
                "batch_size=auto is chosen by one machine's memory, and hardware=multi_worker has several: give a "
                "number"
            )
        acceleration.check_clipping(keys_of(self.optimizer))
        if self.init_parts is not None:
            self._check_init_parts(self.init_parts)
        posterior, prior = (registry.by_target(keys_of(part).get("_target_")) for part in (self.posterior, self.prior))
        spatial = keys_of(self.model).get("latent") == "spatial"  # Then the number of positions is not known yet.
        for component in (posterior, prior):
            if not spatial and component and self.latent < component.least_latent:
                raise UnfitError(
                    f"latent={self.latent}: {component.group}={component.name} needs at least "
                    f"{component.least_latent} dimensions of z: choose latent={component.least_latent}, or another "
                    f"{component.group}"
                )
        if isinstance(self.posterior, Built):
            self.posterior.check_latent(self.latent)
        needing = f"prior={prior.name}" if prior and "dataset" in prior.needs else ""
        if keys_of(self.model).get("conditional") is True:
            needing = "model.conditional=true"
        if keys_of(self.loss).get("perceptual_model") == CLASSIFIER:
            needing = f"loss.perceptual_model={CLASSIFIER}"
        if needing and keys_of(self.dataset).get("labels", "given") is None:
            raise UnfitError(
                f"{needing} needs labels, and dataset.labels is null: give dataset.labels=folders where each class has "
                "a sub-folder of its own, or choose dataset=digits, fashion, mnist or sprites"
            )

    def _check_init_parts(self, parts: list[str]) -> None:
        if self.init_from is None:
            raise UserError("init_parts chooses parts of the run init_from: give that too, or leave init_parts out")
        unknown = next((part for part in parts if part not in models.PARTS), None)
        if unknown is not None or not parts:
            hint = did_you_mean(unknown or "", models.PARTS)
            raise UserError(f"init_parts={parts}: must be a list of some of {', '.join(models.PARTS)}.{hint}")

    def without_output(self) -> Self:
        """Return the configuration for a machine that takes part in a run of which another one writes."""
        checkpoint = replace(self.checkpoint, every=0, every_minutes=0.0, metric=None, models="last")
        return replace(self, figures=FiguresConfig(every=0), evaluation=EvaluationConfig(), checkpoint=checkpoint)


@dataclass
class SweepConfig(Keys):
    """Which sweep is continued, what it is judged by, and what becomes of combinations that do not fit."""

    resume: bool = False
    dir: str | None = None
    metric: str = "test/loss"
    unfit: str = key("refuse", choices=("refuse", "skip"))


@dataclass
class SearchConfig(Keys):
    """How a search chooses its runs, under `hydra.sweeper`."""

    _target_: str = SEARCH
    params: dict[str, Any] = field(default_factory=dict)
    n_trials: int = key(20, minimum=1, unit="runs")
    n_jobs: int = key(1, minimum=1, unit="runs")
    sampler: str = key("tpe", choices=("tpe", "random", "grid", "cmaes"))
    pruner: str = key("none", choices=("none", "median", "hyperband"))
    direction: str = key("minimize", choices=("minimize", "maximize"))
    study_name: str = MISSING
    journal: str = MISSING
    trial: int | None = None


@dataclass
class CommandConfig(Config):
    """The keys of a command: those of a run, and what is to be done with it."""

    resume: str | None = None
    trust: list[str] = field(default_factory=list)
    sweep: SweepConfig = field(default_factory=SweepConfig)


ROOMS = (
    datasets,
    models,
    posteriors,
    priors,
    likelihoods,
    losses,
    acceleration,
    training,
    runtime,
    figures,
    evaluation,
)
register(
    *(component for room in ROOMS for component in room.COMPONENTS),
    Component("sweep", "new", None, SweepConfig, "dir metric unfit"),
    Component("", "config", None, CommandConfig),
)


def register_schemas() -> None:
    """Make the schemas known to Hydra, under `schema/`, so that YAML files can name them."""
    _register_in(ConfigStore.instance())


@cache  # A store keeps them, and to store them again takes a tenth of a second.
def _register_in(store: ConfigStore) -> None:
    for component in registry.components():
        store.store(group=f"schema/{component.group}".rstrip("/"), name=component.name, node=component.node)
    store.store(group="schema/hydra/sweeper", name="optuna", node=SearchConfig)
    # They have the same names as ours, which are built on them, but for a search's: that plugin is for Optuna 2.
    plugins = [("launcher", "joblib"), ("launcher", "ray"), ("launcher", "submitit_local"), ("sweeper", "optuna")]
    rename_plugin_presets(plugins, "_plugin")
