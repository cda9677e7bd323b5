"""The posteriors that a run can choose."""

from vae_runner.config.registry import Component

COMPONENTS = (
    Component("posterior", "gaussian", "vae_runner.posteriors.gaussian.Gaussian"),
    Component("posterior", "point", "vae_runner.posteriors.point.Point"),
)
