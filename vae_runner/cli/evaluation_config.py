"""The keys of `vae-evaluate`: the group `evaluation` of a run's configuration, and nothing else of it."""

from collections.abc import Sequence

from vae_runner.cli.composing import composed
from vae_runner.config.checks import check
from vae_runner.errors import UserError
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.schema import Config

GROUP = "evaluation"


def evaluation_config(overrides: Sequence[str]) -> EvaluationConfig:
    """Return the configuration of an evaluation: `evaluation=default`, or what the overrides make of it.

    Raises:
        UserError: an override is of something else, or cannot be read, or its value is not allowed.
    """
    for override in overrides:
        if not override.startswith((f"{GROUP}=", f"{GROUP}.")):
            raise UserError(
                f"{override}: vae-evaluate takes {GROUP}=… and {GROUP}.KEY=…; all else is as the run has it"
            )
    default = () if any(override.startswith(f"{GROUP}=") for override in overrides) else (f"{GROUP}=default",)
    config = composed([*default, *overrides])
    check(config)
    return Config.of(config).evaluation
