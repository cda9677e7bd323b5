"""The words for a run's numbers: each row of the table, and the keys that its advice names."""

from dataclasses import replace

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from vae_runner.config.checks import check
from vae_runner.evaluation.diagnosis import Evidence, diagnose
from vae_runner.evaluation.structure import Surgery
from vae_runner.schema import register_schemas

VAE = {"reconstruction_weight": None, "kl_weight": 1.0, "kl_warmup_epochs": 0.0, "free_bits": 0.0}


def surgery(mi: float, tc: float, dw: float, log_n: float = 9.0) -> Surgery:
    return Surgery(mi + tc + dw, mi, tc, dw, np.array([dw, 0.0]), log_n, 2000, 0.05)


HEALTHY = Evidence(
    kl=4.5, kl_by_dimension=np.array([2.5, 2.0]), variance_of_means=np.array([0.99, 0.97]),
    deviations=np.array([0.1, 0.2]), surgery=surgery(4.2, 0.1, 0.2), log_likelihood=-99.8, elbo=-100.0,
    losses=((99.0, 100.0),), kl_of_epochs=(3.0, 4.5, 4.6), loss=VAE, reconstruction_weight=1000.0, epochs=10,
)  # fmt: skip
COLLAPSED = replace(
    HEALTHY, kl=0.001, kl_by_dimension=np.array([0.001, 0.0]), variance_of_means=np.array([1e-4, 1e-6]), surgery=None,
    kl_of_epochs=(2.0, 0.3, 0.001),
)  # fmt: skip

CASES = {
    "no fault found": (HEALTHY, "nothing needs to be changed"),
    "collapse": (COLLAPSED, "loss.reconstruction_weight=10000 and loss.kl_warmup_epochs=5"),
    "collapse from the start": (
        replace(COLLAPSED, kl_of_epochs=(0.01, 0.001), reconstruction_weight=None),
        "loss.kl_warmup_epochs=5 and loss.kl_weight=0.1",
    ),
    "nearly collapsed": (
        replace(
            HEALTHY,
            kl=0.7,
            kl_by_dimension=np.array([0.5, 0.2]),
            surgery=surgery(0.3, 0.1, 0.3),
            loss={**VAE, "kl_weight": 100.0},
        ),
        "loss.kl_weight=1 and loss.kl_warmup_epochs=5",
    ),
    "unused dimensions": (
        replace(HEALTHY, kl=2.5, kl_by_dimension=np.array([2.5, 1e-5]), variance_of_means=np.array([0.99, 1e-5])),
        "latent=1 would hold as much",
    ),
    "nearly a plain autoencoder": (
        replace(
            HEALTHY,
            kl=18.5,
            kl_by_dimension=np.array([9.0, 9.5]),
            deviations=np.array([0.001, 0.002]),
            surgery=None,
        ),
        "loss.kl_weight=4",
    ),
    "holes": (replace(HEALTHY, surgery=surgery(4.0, 1.0, 1.0)), "vae-sample --prior mixture; or train with prior="),
    "codes identify each image": (replace(HEALTHY, surgery=surgery(8.9, 2.0, 0.1)), "evaluate more images"),
    "overfitting": (
        replace(HEALTHY, losses=((99.0, 120.0),)),
        "dataset.validation_fraction=0.1, by which the best epoch is kept or epochs=5",
    ),
    "a loose ELBO": (replace(HEALTHY, log_likelihood=-98.0), "posterior=full_gaussian"),
    "undecided dimensions": (replace(HEALTHY, variance_of_means=np.array([0.9, 0.02])), "epochs=20"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_row_has_its_words_and_its_keys(name: str) -> None:
    evidence, advice = CASES[name]
    found = {finding.name: finding for finding in diagnose(evidence)}
    assert name in found
    assert advice in found[name].advice
    if name not in ("unused dimensions", "undecided dimensions", "codes identify each image"):
        assert len(found) == 1
    faults = {finding.name for finding in found.values() if finding.is_fault}
    assert ("no fault found" in found) == (not faults)


def test_losses_of_a_model_that_still_learns_are_no_overfitting() -> None:
    learning = replace(HEALTHY, losses=((99.0, 120.0),), kl_of_epochs=(1.0, 4.6))
    assert [finding.name for finding in diagnose(learning)] == ["no fault found"]


@pytest.mark.parametrize(
    ("kl", "variances"), [(np.full(64, 0.002), np.full(64, 0.004)), (np.array([0.2, 0.2]), np.array([1e-3, 1e-3]))]
)
def test_a_model_without_an_active_dimension_has_collapsed_whatever_the_sum(
    kl: np.ndarray, variances: np.ndarray
) -> None:
    (finding,) = diagnose(
        replace(COLLAPSED, kl=kl.sum(), kl_by_dimension=kl, variance_of_means=variances, kl_of_epochs=())
    )
    assert finding.name == "collapse"


def test_the_weight_that_is_advised_is_at_least_that_of_the_errors() -> None:
    (finding,) = diagnose(replace(COLLAPSED, reconstruction_weight=1.0, fitting_weight=436.0))
    assert finding.advice.startswith("loss.reconstruction_weight=440 and")


def test_advice_has_keys_as_they_are_meant() -> None:
    unused = replace(HEALTHY, kl=2.5, kl_by_dimension=np.array([2.5, 1e-5]), variance_of_means=np.array([0.99, 1e-5]))
    found = diagnose(replace(unused, is_spatial=True))
    assert all("latent=" not in finding.advice for finding in found)
    (finding,) = diagnose(replace(COLLAPSED, loss={**VAE, "kl_warmup_epochs": 5.0, "kl_capacity": 25.0}))
    assert "free_bits" not in finding.advice


def test_two_live_dimensions_of_many_are_no_collapse() -> None:
    kl, variance = np.zeros(200), np.zeros(200)
    kl[:2], variance[:2] = 0.9, 0.8
    names = [finding.name for finding in diagnose(Evidence(kl.sum(), kl, variance))]
    assert names == ["no fault found", "unused dimensions"]


def test_a_kl_term_that_is_of_all_dimensions_together_has_the_rows_that_need_no_more() -> None:
    total = replace(HEALTHY, kl_by_dimension=None)
    assert diagnose(total) == diagnose(HEALTHY)
    assert diagnose(replace(total, variance_of_means=None))[0].explanation == "a KL term of 4.50 nats"
    (collapse,) = diagnose(replace(COLLAPSED, kl_by_dimension=None, variance_of_means=None))
    assert collapse.name == "collapse"
    assert "active" not in collapse.explanation
    unused = diagnose(replace(total, variance_of_means=np.array([0.99, 1e-5])))[-1]
    assert unused.explanation == "1 of 2 dimensions is active"
    loose = diagnose(replace(total, log_likelihood=-98.0, posterior="FullGaussian"))
    assert [finding.name for finding in loose] == ["a loose ELBO"]
    assert loose[0].advice.startswith("posterior=iaf; a bigger encoder")
    assert "nearly a plain autoencoder" not in [f.name for f in diagnose(replace(total, kl=30.0))]


@pytest.mark.parametrize(
    ("loss", "advice"),
    [({}, "vae-sample --prior mixture"), ({"mmd_weight": 10.0, "kl_weight": 0.0}, "loss.mmd_weight has made it")],
)
def test_of_points_it_is_said_that_there_is_no_kl_term_and_whether_they_are_overfitted(
    loss: dict[str, object], advice: str
) -> None:
    points = Evidence(None, losses=((50.0, 60.0), (49.0, 60.0)), loss=loss)
    no_term, overfitted = diagnose(points)
    assert (no_term.name, no_term.is_fault) == ("no KL term", False)
    assert advice in no_term.advice
    assert overfitted.name == "overfitting"
    assert len(diagnose(replace(points, losses=((50.0, 51.0), (49.0, 50.0))))) == 1


@pytest.mark.parametrize(
    ("used", "positions", "name"),
    [(512, 10_000, "no fault found"), (20, 10_000, "unused codes"), (20, 300, "no fault found"), (1, 300, "collapse")],
)
def test_codes_are_judged_by_how_many_are_in_use(used: int, positions: int, name: str) -> None:
    frequencies = np.zeros(512)
    frequencies[:used] = 1 / used
    evidence = Evidence(3.0, code_frequencies=frequencies, positions=positions, posterior="VectorQuantizer")
    (finding,) = diagnose(evidence)
    assert finding.name == name
    if used > 1:
        assert f"{used} of 512 codes are in use, as many as {used}.0" in finding.explanation
    if finding.is_fault:
        assert "posterior.restart_below=1" in finding.advice
        (scalars,) = diagnose(replace(evidence, posterior="FiniteScalarQuantizer"))
        assert "posterior.levels" in scalars.advice


def test_what_was_not_computed_is_left_out() -> None:
    assert [finding.name for finding in diagnose(Evidence(3.0, np.array([3.0]), np.array([0.99])))] == [
        "no fault found"
    ]


@pytest.mark.parametrize(
    ("loss", "keys", "advice"),
    [
        ("vae", {**VAE, "kl_weight": 4.0}, "loss.kl_weight=1 and loss.kl_warmup_epochs=5"),
        ("vae", {**VAE, "kl_warmup_epochs": 5.0}, "loss.kl_weight=0.1 and loss.free_bits=0.25"),
        ("beta_tc", {"total_correlation_weight": 6.0}, "loss.total_correlation_weight=0.6"),
        ("iwae", {"samples": 5}, "loss=vae loss.kl_weight=0.1"),
    ],
)
def test_the_advice_names_keys_that_the_loss_has(loss: str, keys: dict[str, object], advice: str) -> None:
    (finding,) = diagnose(replace(COLLAPSED, loss=keys, reconstruction_weight=None))
    assert finding.advice == advice
    register_schemas()
    given = [f"loss={loss}", "likelihood=gaussian", *advice.split(" and ")[0].split(), *advice.split(" and ")[1:]]
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        check(compose("config", given))


def test_a_model_whose_z_tells_next_to_nothing_has_no_other_finding_than_that() -> None:
    """Its embeddings are far from the prior for their spread, as holes are, and undecided, and some are unused."""
    weak = replace(
        HEALTHY, kl=0.29, kl_by_dimension=np.full(10, 0.029), surgery=surgery(0.04, 0.05, 0.2),
        variance_of_means=np.full(10, 0.009), loss={**VAE, "kl_weight": 4.0},
    )  # fmt: skip
    weak.variance_of_means[0] = 0.02  # type: ignore[index]
    (finding,) = diagnose(weak)
    assert (finding.name, finding.is_fault) == ("nearly collapsed", True)
    assert finding.advice.startswith("loss.kl_weight=1 ")


def test_fewer_dimensions_are_advised_where_the_unused_hold_next_to_nothing() -> None:
    some = replace(HEALTHY, kl_by_dimension=np.array([2.5, 0.2]), variance_of_means=np.array([0.99, 1e-4]), kl=2.7)
    (finding,) = [of for of in diagnose(some) if of.name == "unused dimensions"]
    assert "latent=" not in finding.advice


def test_of_three_images_a_mutual_information_near_0_is_not_near_its_bound() -> None:
    assert not surgery(0.04, 0.01, 1.0, log_n=np.log(3)).is_saturated
    assert surgery(1.05, 0.01, 1.0, log_n=np.log(3)).is_saturated
    assert surgery(7.5, 0.01, 1.0, log_n=9.2).is_saturated
