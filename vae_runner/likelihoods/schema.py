"""The likelihoods that a run can choose."""

from vae_runner.config.registry import Component

COMPONENTS = (Component("likelihood", "mse", "vae_runner.likelihoods.mse.MeanSquaredError"),)
