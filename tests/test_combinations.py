"""Every component of an axis trains next to those it fits: a finite loss, and every weight that takes part moves."""

from collections.abc import Iterator
from itertools import combinations as pairwise_combinations
from itertools import product

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from vae_runner.config import registry
from vae_runner.config.checks import check
from vae_runner.config.fit import check_fit
from vae_runner.errors import UserError
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


def target(group: str, name: str) -> str | None:
    """What a component is built from."""
    return next(component.target for component in registry.components(group) if component.name == name)


def fits(**chosen: str) -> bool:
    """Whether a loss can be taken of these."""
    try:
        check_fit({group: target(group, name) for group, name in chosen.items()})
    except UserError:
        return False
    return True


def combinations() -> Iterator[tuple[str, str, str, str]]:
    """One of every pair of components that fit, in few combinations."""
    axes = ("posterior", "prior", "likelihood", "loss")
    every = [chosen for chosen in product(*map(names, axes)) if fits(**dict(zip(axes, chosen, strict=True)))]
    left = {pair for chosen in every for pair in pairs(chosen)}
    while left:
        best = max(every, key=lambda chosen: len(left.intersection(pairs(chosen))))
        left.difference_update(pairs(best))
        yield best


def pairs(chosen: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    """The pairs of a combination, each component with its axis."""
    return set(pairwise_combinations(enumerate(chosen), 2))


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
