"""The priors that a run can choose."""

from vae_runner.config.registry import Component

COMPONENTS = (Component("prior", "normal", "vae_runner.priors.normal.Normal"),)
