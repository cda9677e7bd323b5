"""Every component of an axis trains next to those it fits: a finite loss, and every weight that takes part moves."""

from collections.abc import Callable, Iterator
from itertools import combinations as of_two
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from tests.combinations import every_fitting, names, tables
from tests.conftest import REPOSITORY, command, mostly_slow
from vae_runner.config.checks import check
from vae_runner.experiment import Experiment, build_experiment
from vae_runner.runtime.hardware import setup
from vae_runner.schema import Config
from vae_runner.trackers.summary import show_summary
from vae_runner.training.stopwatch import Stopwatch

SMALL = (
    *("dataset=digits", "dataset.limit=40", "batch_size=16", "epochs=1", "hardware=cpu"),
    *("model=mlp", "model.width=8", "latent=3"),
)
FEW = {  # of what is many by default, or of images that the digits are not
    "likelihood=bernoulli": "dataset._target_=tests.binary_digits.load",
    "prior=vamp": "prior.pseudo_inputs=4",
    "prior=real_nvp": "prior.steps=2",
    **{f"posterior={flow}": "posterior.steps=2" for flow in ("planar", "householder", "sylvester", "iaf", "real_nvp")},
    "method=real_nvp_prior": "prior.steps=2",
    "method=vampprior": "prior.pseudo_inputs=4",
    "method=mixture_prior": "prior.components=4",
}


def combinations() -> Iterator[tuple[str, str, str, str]]:
    """One of every pair of components that fit, in few combinations."""
    every = every_fitting()
    left = {pair for chosen in every for pair in pairs(chosen)}
    while left:
        best = max(every, key=lambda chosen: len(left.intersection(pairs(chosen))))
        left.difference_update(pairs(best))
        yield best


def pairs(chosen: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    """The pairs of a combination, each component with its axis."""
    return set(of_two(enumerate(chosen), 2))


def built(*overrides: str) -> Experiment:
    """A small experiment."""
    few = [FEW[override] for override in overrides if override in FEW]
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        config = compose("config", [*SMALL, *overrides, *few])
    check(config)
    made = Config.of(config)
    return build_experiment(made, setup(made.hardware, made.seed), Stopwatch())


COMBINATIONS = [
    chosen if number < 12 else pytest.param(*chosen, marks=pytest.mark.slow)
    for number, chosen in enumerate(combinations())
]


@pytest.mark.parametrize(("posterior", "prior", "likelihood", "loss"), COMBINATIONS)
def test_two_steps_have_a_finite_loss_and_move_every_weight_that_takes_part(
    posterior: str, prior: str, likelihood: str, loss: str
) -> None:
    experiment = built(f"posterior={posterior}", f"prior={prior}", f"likelihood={likelihood}", f"loss={loss}")
    before = [np.array(variable) for variable in experiment.autoencoder.trainable_variables]
    result = experiment.trainer.run_epoch(lambda progress: None)
    assert all(np.isfinite(value) for value in result.metrics.values()), result.metrics
    unmoved = {
        variable.path
        for variable, old in zip(experiment.autoencoder.trainable_variables, before, strict=True)
        if np.array_equal(variable, old)
    }
    autoencoder, idle = experiment.autoencoder, []
    if loss in ("ae", "rae"):  # of which the mean alone takes part
        spreads = ("log_var", "base_log_var", "log_scale", "scale", "concentration")
        idle = [*autoencoder.prior.trainable_variables]
        idle += [v for v in autoencoder.encoder.trainable_variables if v.path.split("/")[-2] in spreads]
    elif loss == "mmd":  # draws do not move with a mixture's weights
        idle = [v for v in autoencoder.prior.trainable_variables if v.path.endswith("logits")]
    assert unmoved <= {variable.path for variable in idle}


METHODS = sorted(file.stem for file in (REPOSITORY / "conf" / "method").glob("*.yaml"))


@pytest.mark.parametrize("method", mostly_slow(METHODS, quick=4))
def test_a_method_composes_and_trains(method: str) -> None:
    result = built(f"method={method}").trainer.run_epoch(lambda progress: None)
    assert all(np.isfinite(value) for value in result.metrics.values()), result.metrics


def test_the_tables_of_what_fits_what_are_those_of_the_registry() -> None:
    assert tables() in (REPOSITORY / "docs" / "methods.md").read_text()


def test_every_method_and_every_component_is_described() -> None:
    text = (REPOSITORY / "docs" / "methods.md").read_text()
    groups = ("posterior", "prior", "likelihood", "loss")
    for name in [*METHODS, *(name for group in groups for name in names(group))]:
        assert f"`{name}`" in text, name


def test_a_likelihood_of_binary_images_refuses_grey_ones(tmp_path: Path, refusal: Callable[..., str]) -> None:
    said = refusal("vae-run", "likelihood=bernoulli", "dataset.limit=20", cwd=tmp_path)
    assert "Bernoulli is for images of the levels 0 and 255" in said
    assert "choose likelihood=" in said


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        (
            ("posterior=point",),
            ("loss=vae needs a posterior with a density", "posterior=point", "loss from ae, mmd, rae"),
        ),
        (("loss=iwae",), ("loss=iwae needs a likelihood with a density", "likelihood=mse", "likelihood from gaussian")),
        (("prior=sphere",), ("prior=sphere needs a posterior on the sphere", "choose posterior from power_spherical")),
        (("prior=vamp", "posterior=laplace"), ("prior=vamp needs a posterior that is a Gaussian", "posterior=laplace")),
        (("prior=vamp", "posterior=planar"), ("prior=vamp needs a posterior that is a Gaussian", "posterior=planar")),
        (("loss=beta_tc", "posterior=full_gaussian"), ("whose dimensions are independent", "posterior from gaussian")),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line_that_names_both_sides_and_what_would(
    arguments: tuple[str, ...], sides: tuple[str, ...], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal("vae-run", *arguments, "dataset.limit=20", "figures=none", cwd=tmp_path)
    for side in sides:
        assert side in said
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_sweep_with_a_combination_that_does_not_fit_is_refused_before_its_first_run(tmp_path: Path) -> None:
    result = command("vae-run", "-m", "loss=ae,iwae", "posterior=gaussian", "dataset.limit=20", cwd=tmp_path)
    assert result.returncode == 2
    assert "loss=iwae needs a likelihood with a density, and likelihood=mse is not one" in result.stderr
    assert not list(tmp_path.glob("outputs/*/*"))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("loss.free_bits=0.1", "posterior=full_gaussian"), "loss.free_bits=0.1 needs a closed KL divergence"),
        (("loss.free_bits=0.1", "posterior=householder"), "loss.free_bits=0.1 needs a closed KL divergence"),
        (("loss.free_bits=0.1", "prior=vamp", "prior.pseudo_inputs=2"), "loss.free_bits=0.1 needs a closed KL"),
        (("loss.free_bits=0.1", "loss.kl_capacity=5"), "loss.free_bits and loss.kl_capacity"),
        (("loss.kl_cycle_epochs=4",), "loss.kl_cycle_epochs=4.0 repeats the warm-up"),
        (("loss.kl_cycle_epochs=4", "loss.kl_warmup_epochs=5"), "no more than a cycle has"),
        (("loss.kl_capacity_epochs=4",), "loss.kl_capacity_epochs needs loss.kl_capacity"),
    ],
    ids=str,
)
def test_keys_of_the_kl_term_that_do_not_go_together_are_refused_before_any_work(
    arguments: tuple[str, ...], wrong: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert wrong in refusal("vae-run", *arguments, *SMALL, "figures=none", cwd=tmp_path)
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (
            ("posterior=iaf", "loss=iwae", "likelihood=gaussian", "loss.gradient=dreg"),
            "loss.gradient=dreg needs the posterior's density as a function of z, which Iaf has at its own draws only: "
            "choose loss.gradient=iwae, or a posterior with an inverse like householder or real_nvp",
        ),
        (("posterior=real_nvp", "latent=1"), "latent=1: real_nvp couples dimensions of z to each other, and needs"),
        (("prior=real_nvp", "latent=1"), "latent=1: real_nvp couples dimensions of z to each other, and needs"),
    ],
    ids=str,
)
def test_what_a_flow_cannot_do_is_refused_before_training(
    arguments: tuple[str, ...], wrong: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert wrong in refusal("vae-run", *SMALL, *arguments, "figures=none", cwd=tmp_path)
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))


def test_the_summary_counts_the_weights_of_priors_and_likelihoods_too(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, lines = built("prior=mixture", "likelihood=gaussian", "prior.components=4"), []
    monkeypatch.setattr("vae_runner.trackers.summary.log.info", lambda text, *values: lines.append(text % values))
    show_summary(experiment.autoencoder, experiment.dataset, 16, experiment.machine.description, layers=False)
    variables = [v for part in experiment.autoencoder.parts.values() for v in part.variables]
    assert f"Parameters: {sum(np.size(variable) for variable in variables):,};" in "".join(lines)
