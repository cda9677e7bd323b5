"""The posteriors that a run can choose."""

from vae_runner.config.registry import Component

COMPONENTS = (
    Component("posterior", "gaussian", "vae_runner.posteriors.gaussian.Gaussian"),
    Component("posterior", "full_gaussian", "vae_runner.posteriors.full_gaussian.FullGaussian"),
    Component("posterior", "laplace", "vae_runner.posteriors.laplace.Laplace"),
    Component("posterior", "point", "vae_runner.posteriors.point.Point"),
)
