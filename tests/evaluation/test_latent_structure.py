"""The KL term, active units and the diagnosis of every kind of posterior and prior, of networks without training."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import mostly_slow
from tests.small_experiments import built
from vae_runner.distributions.divergence import has_closed_form, kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.evaluation.groups import structure
from vae_runner.evaluation.groups.structure import diagnosis, kl
from vae_runner.evaluation.likelihood import log_likelihood
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject, Training


def subject(*keys: str, seed: int = 0) -> Subject:
    experiment = built(*keys)
    keys_of_loss = {"kl_weight": 1.0}
    return Subject(experiment.result, experiment.dataset, EvaluationConfig(seed=seed), Training(keys_of_loss, None, 1))


def measured(of: Subject) -> tuple[structure.Found, list[str]]:
    """What is found of the KL term, and the diagnosis."""
    return kl(of, lambda done: None), list(diagnosis(of, lambda done: None).notes)


def test_a_kl_term_without_a_closed_form_is_estimated_within_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture of one component is a Gaussian, and with that the pair has a closed form."""
    of = subject("posterior=full_gaussian", "prior=mixture", "prior.components=1")
    test = of.encoded("test", 10_000)
    mixture = of.autoencoder.latent_prior()
    component = DiagonalGaussian(mixture.means, mixture.log_vars)
    posterior = of.posterior(test)
    assert has_closed_form(posterior, component)
    assert not has_closed_form(posterior, mixture)
    exact = float(np.mean(kl_divergence(posterior, component, posterior.mean)))
    found, words = measured(of)
    error = found.standard_errors["kl"]
    assert 0 < error < 0.5
    assert found.values["kl"] == pytest.approx(exact, abs=4 * error)
    assert found.how["kl"] == "estimated"
    assert "estimated from a draw" in found.notes[0]
    assert "active_units" in found.values
    assert not found.arrays
    assert all("nats" in line or "undecided" in line for line in words)
    monkeypatch.setattr(structure, "batch_size_for", lambda autoencoder: 7)
    assert kl(of, lambda done: None).values["kl"] == pytest.approx(found.values["kl"], rel=1e-6)
    other = Subject(of.autoencoder, of.dataset, replace(of.config, seed=1), of.training)
    assert kl(other, lambda done: None).values["kl"] != found.values["kl"]


@pytest.mark.parametrize(
    "keys", mostly_slow([("posterior=planar",), ("posterior=iaf", "prior=vamp"), ("prior=real_nvp",)]), ids=" ".join
)
def test_the_estimate_is_the_rate_of_the_same_draws(keys: tuple[str, ...]) -> None:
    of = subject(*keys, "likelihood=gaussian")
    found, words = measured(of)
    test = of.encoded("test", 10_000)
    rate = log_likelihood(of.autoencoder, test.split.images, samples=1, seed=0).rate
    assert found.values["kl"] == pytest.approx(rate.mean(), rel=1e-4)
    assert found.how["kl"] == "estimated"
    assert words


def test_the_closed_form_of_each_dimension_is_taken_where_there_is_one() -> None:
    found, _ = measured(subject())
    assert found.how["kl"] == "closed form"
    assert found.values["kl"] == pytest.approx(found.arrays["kl_by_dimension"]["kl"].sum())
    assert "kl" not in found.standard_errors


def test_on_a_sphere_there_is_a_kl_term_and_no_count_of_active_units() -> None:
    found, words = measured(subject("posterior=power_spherical", "prior=sphere"))
    assert found.values.keys() == {"kl"}
    assert found.how["kl"] == "closed form"
    assert "no active_units: on a sphere" in found.notes[0]
    assert not any("active" in line for line in words)


def test_a_point_has_neither_a_kl_term_nor_active_units() -> None:
    found, words = measured(subject("method=ae", "posterior=point"))
    assert found.values == {}
    assert "There is no KL divergence: a posterior that is a point has no density" in found.notes
    assert "There are no active_units: a point has no variance" in found.notes[1]
    assert words[0].startswith("no KL term: each image's z is a point")


@pytest.mark.parametrize(
    ("keys", "codes"),
    [(("method=vq_vae", "posterior.codes=8", "latent=3"), 8), (("method=fsq", "latent=2", "posterior.levels=5"), 25)],
)
def test_of_codes_their_use_is_what_is_said(keys: tuple[str, ...], codes: int) -> None:
    of = subject(*keys, "model=mlp")
    found, words = measured(of)
    assert found.values["kl"] == pytest.approx(math.log(codes))  # of one position
    chosen = np.asarray(of.posterior(of.encoded("test", 100)).codes).ravel()
    counts = np.bincount(chosen) / len(chosen)
    entropy = -np.sum(counts[counts > 0] * np.log(counts[counts > 0]))
    assert found.values["perplexity"] == pytest.approx(np.exp(entropy))
    assert found.values["usage"] == np.count_nonzero(counts) / codes
    assert "active_units" not in found.values
    assert "no active_units: z is made of codes" in found.notes[0]
    assert any(f"of {codes} codes are in use" in line or "the same one of" in line for line in words)


def test_categorical_variables_have_a_kl_term_that_can_collapse() -> None:
    of = subject("method=gumbel_vae", "latent=3", "model=mlp")
    found, _ = measured(of)
    assert found.how["kl"] == "closed form"
    assert {"kl", "perplexity", "usage"} == found.values.keys()
    logits = of.encoded("test", 10_000).parameters["logits"]
    logits *= 100  # Without training they are small.
    assert "KL term of" in measured(of)[1][0]
    logits *= 0
    assert measured(of)[1][0].startswith("collapse: the KL term is 0.000 nats: z holds")


def test_a_weight_is_advised_for_a_mean_squared_error_and_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """D / (2 MSE) is the weight with β = 1 of that error; a cross-entropy's weight is on another scale."""
    seen = []
    monkeypatch.setattr(structure, "diagnose", lambda evidence: seen.append(evidence.fitting_weight) or ())
    for likelihood in ("mse", "cross_entropy"):
        of = subject(f"likelihood={likelihood}")
        of.training = replace(of.training, reconstruction_weight=1.0)
        diagnosis(of, lambda done: None)
    assert seen[0] > 1
    assert seen[1] is None


def test_the_total_correlation_of_means_leaves_out_what_is_constant_and_of_a_point_there_are_no_draws() -> None:
    of = subject("posterior=point", "loss=ae", "latent=3")
    encoded = of.encoded("test", 10_000)
    encoded.parameters["mean"][:, 1] = 0.25
    found = structure.gaussian_total_correlation(of, lambda done: None)
    assert found.values.keys() == {"gaussian_total_correlation[mean]"}
    assert found.notes == ["gaussian_total_correlation[mean] is of the 2 dimensions that vary"]
