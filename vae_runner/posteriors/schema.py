"""The posteriors that a run can choose."""

from vae_runner.config.registry import Component

VECTOR = frozenset({"vector"})
DENSITY = frozenset({"density"})
FACTORISED = VECTOR | DENSITY | {"factorised"}

COMPONENTS = (
    Component(
        "posterior", "gaussian", "vae_runner.posteriors.gaussian.Gaussian", gives=FACTORISED | {"gaussian"},
    ),
    Component(
        "posterior", "full_gaussian", "vae_runner.posteriors.full_gaussian.FullGaussian", gives=VECTOR | DENSITY,
    ),
    Component("posterior", "laplace", "vae_runner.posteriors.laplace.Laplace", gives=FACTORISED),
    Component(
        "posterior", "power_spherical", "vae_runner.posteriors.power_spherical.PowerSpherical",
        gives=DENSITY | {"sphere"},
    ),
    Component("posterior", "point", "vae_runner.posteriors.point.Point", gives=VECTOR),
)  # fmt: skip
