"""The posteriors that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Component
from vae_runner.flows.schema import FlowConfig, RealNvpConfig


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


VECTOR = frozenset({"vector"})
DENSITY = frozenset({"density"})
AT_EVERY_Z = DENSITY | {"every z"}
EVERYWHERE = VECTOR | AT_EVERY_Z | {"everywhere"}
FACTORISED = EVERYWHERE | {"factorised"}

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
        "posterior", "planar", "vae_runner.posteriors.planar.Planar", FlowConfig, "steps", gives=VECTOR | DENSITY,
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
)  # fmt: skip
