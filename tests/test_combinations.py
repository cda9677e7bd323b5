"""Every component of an axis trains next to those it fits: a finite loss, and every weight that takes part moves."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from vae_runner.config import registry
from vae_runner.config.checks import check
from vae_runner.experiment import Experiment, build_experiment
from vae_runner.runtime.hardware import setup
from vae_runner.schema import register_schemas
from vae_runner.training.stopwatch import Stopwatch

SMALL = (
    *("dataset=digits", "dataset.limit=40", "batch_size=16", "epochs=1", "hardware=cpu"),
    *("model=mlp", "model.width=8", "latent=3"),
)
FEW = {"prior": {"vamp": "prior.pseudo_inputs=4"}}  # of what is many by default


def names(group: str) -> list[str]:
    """The components of a group."""
    register_schemas()
    return [component.name for component in registry.components(group)]


def fits(posterior: str, prior: str, loss: str) -> bool:
    """Whether a loss can be taken of these."""
    return (loss == "ae" or posterior != "point") and (prior != "vamp" or posterior == "gaussian")


def combinations() -> Iterator[tuple[str, str, str, str]]:
    """Every posterior, prior and loss that fit with one likelihood; and every likelihood with every loss."""
    for posterior, prior, loss in product(names("posterior"), names("prior"), names("loss")):
        if fits(posterior, prior, loss):
            yield posterior, prior, "mse", loss
    for likelihood, loss in product(names("likelihood"), names("loss")):
        yield "gaussian", "normal", likelihood, loss


def built(posterior: str, prior: str, likelihood: str, loss: str) -> Experiment:
    chosen = {"posterior": posterior, "prior": prior, "likelihood": likelihood, "loss": loss}
    few = [FEW[group][name] for group, name in chosen.items() if name in FEW.get(group, {})]
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose("config", [*SMALL, *(f"{group}={name}" for group, name in chosen.items()), *few])
    check(config)
    return build_experiment(config, setup(config.hardware, config.seed), Stopwatch())


@pytest.mark.parametrize(("posterior", "prior", "likelihood", "loss"), list(combinations()))
def test_two_steps_have_a_finite_loss_and_move_every_weight_that_takes_part(
    posterior: str, prior: str, likelihood: str, loss: str
) -> None:
    experiment = built(posterior, prior, likelihood, loss)
    before = [np.array(variable) for variable in experiment.autoencoder.trainable_variables]
    result = experiment.trainer.run_epoch(lambda progress: None)
    assert all(np.isfinite(value) for value in result.metrics.values()), result.metrics
    unmoved = {
        variable.path
        for variable, old in zip(experiment.autoencoder.trainable_variables, before, strict=True)
        if np.array_equal(variable, old)
    }
    autoencoder = experiment.autoencoder
    idle = [] if loss != "ae" else [*autoencoder.prior.trainable_variables, *autoencoder.posterior.trainable_variables]
    if loss == "ae":  # a reconstruction of the mean alone
        idle += [v for v in autoencoder.encoder.trainable_variables if v.path.split("/")[-2] not in ("mean", "dense")]
    assert unmoved <= {variable.path for variable in idle}
