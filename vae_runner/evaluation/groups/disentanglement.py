"""The group `disentanglement`: scores of embeddings beside the known factors of their images."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vae_runner.evaluation.beta_vae_score import beta_vae_score
from vae_runner.evaluation.dci import dci
from vae_runner.evaluation.evaluate import Found, Metric, Report
from vae_runner.evaluation.explicitness import explicitness
from vae_runner.evaluation.factor_vae_score import factor_vae_score
from vae_runner.evaluation.irs import irs
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.mig import mig
from vae_runner.evaluation.modularity import modularity
from vae_runner.evaluation.probes import accuracy_error
from vae_runner.evaluation.sap import sap_r2, sap_svm
from vae_runner.evaluation.subject import Subject


def mig_score(subject: Subject, report: Report) -> Found:
    """Return the mutual information gap, beside its ceiling."""
    codes, factors, how = _factors(subject)
    found, chance = (mig(of, factors, images=len(of)) for of in (codes, _random(subject, codes)))
    values = {"mig": found.score, "mig[ceiling]": found.ceiling, "mig[random code]": chance.score}
    how = {**how, "bins": 20}
    information = found.mutual_information - found.bias
    arrays = {"mutual_information": {"mutual_information": information, "entropy": found.entropy, **_names(subject)}}
    return Found(values, how=how, arrays=arrays, pictured={"mutual_information": found})


def dci_score(subject: Subject, report: Report) -> Found:
    """Return disentanglement, completeness and informativeness by boosted trees, beside those of a random code."""
    config = subject.config.dci
    codes, factors, how = _factors(subject, config.samples + config.test_samples)
    results = []
    for of in (codes, _random(subject, codes)):
        results.append(dci(of, factors, train=config.samples, test=config.test_samples, seed=subject.config.seed))
        report(len(results) / 2)
    of_model, of_random = results
    values = {}
    for name, found in (("", of_model), ("[random code]", of_random)):
        values[f"dci_disentanglement{name}"] = found.disentanglement
        values[f"dci_completeness{name}"] = found.completeness
        values[f"dci_informativeness{name}"] = found.informativeness
    values["dci_informativeness[chance]"] = of_model.chance
    notes = []
    if of_model.informativeness <= of_model.chance + 2 * accuracy_error(of_model.chance, of_model.test):
        notes.append(
            "DCI: the trees learn nothing from z that is beyond chance, so that its disentanglement and completeness "
            "mean nothing"
        )
    how = {
        **how, "n": of_model.train + of_model.test, "train": of_model.train, "test": of_model.test,
        "predictor": "GradientBoostingClassifier",
    }  # fmt: skip
    arrays = {"dci": {"importance": of_model.importance, "accuracy": of_model.accuracy, **_names(subject)}}
    return Found(values, notes=notes, how=how, arrays=arrays, pictured={"dci": of_model})


def predicted_factor_scores(subject: Subject, report: Report) -> Found:
    """Return the scores of how well a fixed factor is told: FactorVAE's and β-VAE's, beside a random code's."""
    codes, factors, how = _factors(subject)
    seed = subject.config.seed
    values = {}
    sizes = {"batch": 64, "train": 10_000, "test": 5000}  # images of a vote or point, and how many of these
    for name, of in (("", codes), ("[random code]", _random(subject, codes))):
        values[f"factor_vae_score{name}"] = factor_vae_score(of, factors, **sizes, seed=seed).score
        values[f"beta_vae_score{name}"] = beta_vae_score(of, factors, **sizes, seed=seed).score
        report(0.5 if not name else 1.0)
    return Found(values, how={**how, **sizes})


def sap(subject: Subject, report: Report) -> Found:
    """Return the gap of the two best predictors of each factor, by R² and by a support vector machine."""
    codes, factors, how = _factors(subject)
    train, test = _two_thirds(codes)
    seed = subject.config.seed
    values = {}
    for name, of in (("", codes), (", random code", _random(subject, codes))):
        values[f"sap[r2{name}]"] = sap_r2(of, factors, images=len(of)).score
        values[f"sap[svm{name}]"] = sap_svm(of, factors, train=train, test=test, seed=seed).score
        report(0.5 if not name else 1.0)
    return Found(values, how={**how, "train": train, "test": test})


def other_scores(subject: Subject, report: Report) -> Found:
    """Return modularity, explicitness and interventional robustness, beside those of a random code."""
    codes, factors, how = _factors(subject)
    train, test = _two_thirds(codes)
    values = {}
    seed = subject.config.seed
    for name, of in (("", codes), ("[random code]", _random(subject, codes))):
        values[f"modularity{name}"] = modularity(of, factors, images=len(of)).score
        values[f"explicitness{name}"] = explicitness(of, factors, train=train, test=test, seed=seed).score
        values[f"irs{name}"] = irs(of, factors, images=len(of)).score
        report(0.5 if not name else 1.0)
    note = "Modularity of noise is high: read it beside that of the random code, and never alone"
    return Found(values, notes=[note], how={**how, "bins": 20, "train": train, "test": test})


def _factors(subject: Subject, least: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64], Mapping[str, object]]:
    """Return embeddings and factors of images of the full grid where there is one, else of the test split."""
    encoded = subject.with_factors(max(subject.config.disentanglement.images, least))
    factors = encoded.split.factors
    assert factors is not None
    split = "grid" if subject.dataset.grid is not None else "test"
    return encoded.mean, np.asarray(factors), {"n": len(factors), "split": split, "code": "mean"}


def _names(subject: Subject) -> dict[str, NDArray[np.str_]]:
    return {"factor_names": np.array(subject.dataset.factor_names, np.str_)}


def _random(subject: Subject, codes: NDArray[np.float32]) -> NDArray[np.float32]:
    return random_code(len(codes), codes.shape[1], subject.config.seed)


def _two_thirds(codes: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many codes a predictor learns from and is tested on: 10,000 and 5,000, or fewer in this proportion."""
    test = min(len(codes) // 3, 5000)
    return min(len(codes) - test, 10_000), test


METRICS = (
    Metric("mig", "disentanglement", mig_score, ("disentanglement",)),
    Metric("dci", "disentanglement", dci_score, ("disentanglement", "dci")),
    Metric("fixed_factor_scores", "disentanglement", predicted_factor_scores, ("disentanglement",)),
    Metric("sap", "disentanglement", sap, ("disentanglement",)),
    Metric("modularity_explicitness_irs", "disentanglement", other_scores, ("disentanglement",)),
)
