"""The keys of flows, which posteriors and priors share."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built


@dataclass
class FlowConfig(Built):
    """How many maps a flow has."""

    steps: int = key(10, minimum=1, maximum=1000, unit="maps")


@dataclass
class RealNvpConfig(FlowConfig):
    """The keys of affine couplings."""

    steps: int = key(8, minimum=1, maximum=1000, unit="maps")
    width: int = key(128, minimum=1, maximum=65536, unit="units a hidden layer")
