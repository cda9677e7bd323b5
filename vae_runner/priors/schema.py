"""The priors that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component
from vae_runner.flows.schema import RealNvpConfig


@dataclass
class MixtureConfig(Built):
    """The keys of a mixture of Gaussians."""

    components: int = key(10, minimum=1, maximum=100_000)


@dataclass
class VampConfig(Built):
    """The VampPrior's keys."""

    pseudo_inputs: int = key(500, minimum=1, maximum=100_000)


VECTOR = frozenset({"vector"})
VECTORS = {"posterior": VECTOR}
# A prior with weights needs a loss that trains them.
TRAINED = VECTORS | {"loss": frozenset({"prior"})}
FACTORISED = frozenset({"factorised"})

COMPONENTS = (
    Component("prior", "normal", "vae_runner.priors.normal.Normal", needs=VECTORS, gives=FACTORISED),
    Component(
        "prior", "learned_normal", "vae_runner.priors.learned_normal.LearnedNormal", needs=TRAINED, gives=FACTORISED,
    ),
    Component("prior", "mixture", "vae_runner.priors.mixture.Mixture", MixtureConfig, "components", needs=TRAINED),
    Component(
        "prior", "vamp", "vae_runner.priors.vamp.Vamp", VampConfig, "pseudo_inputs",
        needs=TRAINED | {"posterior": VECTOR | {"every z"}},
    ),
    Component(
        "prior", "class_conditional", "vae_runner.priors.class_conditional.ClassConditional",
        needs=TRAINED | {"dataset": frozenset({"labels"})}, gives=FACTORISED,
    ),
    Component(
        "prior", "real_nvp", "vae_runner.priors.real_nvp.RealNvp", RealNvpConfig, "steps width", needs=TRAINED,
        least_latent=2,
    ),
    Component(
        "prior", "categorical", "vae_runner.priors.categorical.Categorical",
        needs={"posterior": frozenset({"codes"})},
    ),
    Component(
        "prior", "learned_categorical", "vae_runner.priors.learned_categorical.LearnedCategorical",
        needs={"posterior": frozenset({"weighed codes"}), "loss": frozenset({"log prior"})},
    ),
    Component(
        "prior", "sphere", "vae_runner.priors.sphere.Sphere", needs={"posterior": frozenset({"sphere"})},
    ),
)  # fmt: skip
