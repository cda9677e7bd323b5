"""The posteriors that a run can choose, with their keys."""

import math
from dataclasses import dataclass

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component
from vae_runner.errors import UnfitError, UserError
from vae_runner.flows.schema import FlowConfig, RealNvpConfig


@dataclass
class PlanarConfig(FlowConfig):
    """The keys of planar maps."""

    scale: float = key(0.1, above=0)


@dataclass
class SylvesterConfig(FlowConfig):
    """The keys of Sylvester maps."""

    steps: int = key(4, minimum=1, maximum=1000, unit="maps")
    columns: int = key(8, minimum=1, maximum=1000)


@dataclass
class IafConfig(FlowConfig):
    """The keys of inverse autoregressive maps."""

    steps: int = key(4, minimum=1, maximum=1000, unit="maps")
    width: int = key(320, minimum=1, maximum=65536, unit="units a hidden layer")


@dataclass
class VqConfig(Built):
    """The keys of a codebook."""

    codes: int = key(512, minimum=2, maximum=1_000_000)
    update: str = key("ema", choices=("ema", "loss"))
    decay: float = key(0.99, minimum=0, below=1)
    cosine: bool = False
    kmeans: bool = False
    restart_below: float = key(0.0, minimum=0, unit="positions a batch")


@dataclass
class FsqConfig(Built):
    """The keys of levels without a codebook."""

    levels: Mixed[int | list[int]] = 8  # of every dimension, or of each

    def check(self) -> None:
        """Refuse levels that are no numbers of levels."""
        levels = self.levels if isinstance(self.levels, list) else [self.levels]
        if not levels or not all(type(number) is int and 2 <= number <= MAX_LEVELS for number in levels):
            raise UserError(
                f"posterior.levels={self.levels}: must be an integer from 2 to {MAX_LEVELS}, or a list "
                "with one such integer a latent dimension"
            )

    def check_latent(self, latent: int) -> None:
        """Refuse levels that are not as many as the channels of z, or make too many codes."""
        levels = self.levels if isinstance(self.levels, list) else [self.levels] * latent
        if len(levels) != latent:
            raise UnfitError(
                f"posterior.levels={levels} are {len(levels)} for latent={latent}: give one a latent dimension, or "
                "one number for all"
            )
        if math.prod(levels) > MAX_CODES:
            raise UnfitError(
                f"posterior.levels={self.levels} with latent={latent} are more than {MAX_CODES:,} codes: give a "
                "smaller latent (4 to 6 is usual), or fewer levels"
            )


@dataclass
class GumbelConfig(Built):
    """The keys of categorical variables."""

    categories: int = key(10, minimum=2, maximum=100_000)
    temperature: float = key(1.0, above=0)
    final_temperature: float = key(0.5, above=0)
    temperature_epochs: float = key(0.0, minimum=0, unit="epochs")
    straight_through: bool = False


MAX_LEVELS = 256
MAX_CODES = 1 << 20  # of finite scalars: their frequencies are counted
MAP = frozenset({"map"})
VECTOR = MAP | {"vector"}
DENSITY = frozenset({"density"})
CODES = MAP | {"codes"}
WEIGHED = CODES | {"weighed codes"}
AT_EVERY_Z = DENSITY | {"every z"}
EVERYWHERE = VECTOR | AT_EVERY_Z
FACTORISED = EVERYWHERE | {"factorised"}
CODEBOOK = frozenset({"codebook"})

COMPONENTS = (
    Component(
        "posterior", "gaussian", "vae_runner.posteriors.gaussian.Gaussian", gives=FACTORISED,
    ),
    Component(
        "posterior", "full_gaussian", "vae_runner.posteriors.full_gaussian.FullGaussian", gives=EVERYWHERE,
    ),
    Component("posterior", "laplace", "vae_runner.posteriors.laplace.Laplace", gives=FACTORISED),
    Component(
        "posterior", "power_spherical", "vae_runner.posteriors.power_spherical.PowerSpherical",
        gives=AT_EVERY_Z | {"sphere"},
    ),
    Component("posterior", "point", "vae_runner.posteriors.point.Point", gives=VECTOR),
    Component(
        "posterior", "planar", "vae_runner.posteriors.planar.Planar", PlanarConfig, "steps scale",
        gives=VECTOR | DENSITY,
    ),
    Component(
        "posterior", "householder", "vae_runner.posteriors.householder.Householder", FlowConfig, "steps",
        gives=EVERYWHERE,
    ),
    Component(
        "posterior", "sylvester", "vae_runner.posteriors.sylvester.Sylvester", SylvesterConfig, "steps columns",
        gives=VECTOR | DENSITY,
    ),
    Component(
        "posterior", "iaf", "vae_runner.posteriors.iaf.Iaf", IafConfig, "steps width", gives=EVERYWHERE,
    ),
    Component(
        "posterior", "real_nvp", "vae_runner.posteriors.real_nvp.RealNvp", RealNvpConfig, "steps width",
        gives=EVERYWHERE, least_latent=2,
    ),
    Component(
        "posterior", "vq", "vae_runner.posteriors.vq.VectorQuantizer", VqConfig, "codes update cosine restart_below",
        gives=WEIGHED | CODEBOOK, needs={"loss": CODEBOOK},
    ),
    Component(
        "posterior", "fsq", "vae_runner.posteriors.fsq.FiniteScalarQuantizer", FsqConfig, "levels", gives=CODES,
    ),
    Component(
        "posterior", "gumbel", "vae_runner.posteriors.gumbel.Gumbel", GumbelConfig,
        "categories temperature final_temperature straight_through", gives=WEIGHED | DENSITY,
    ),
)  # fmt: skip
