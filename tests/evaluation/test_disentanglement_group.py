from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Split
from vae_runner.evaluation.groups.disentanglement import METRICS, mig_score, other_scores
from vae_runner.evaluation.mig import mig
from vae_runner.evaluation.schema import DciConfig, DisentanglementConfig, EvaluationConfig
from vae_runner.evaluation.subject import Encoded


def subject_of(codes: NDArray[np.float32], factors: NDArray[np.int64], seed: int = 0) -> SimpleNamespace:
    encoded = Encoded(Split(np.zeros((len(codes), 1, 1, 1), np.uint8), None, factors), {"mean": codes})
    sizes = DciConfig(samples=1000, test_samples=500)
    return SimpleNamespace(
        config=EvaluationConfig(dci=sizes, disentanglement=DisentanglementConfig(images=len(codes)), seed=seed),
        dataset=SimpleNamespace(factor_names=["a", "b", "c"], grid=None),
        with_factors=lambda count: encoded,
    )


def test_a_code_that_is_the_factors_has_a_higher_score_by_each_metric_than_the_random_code_beside_it() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (3, 4, 5), (1500, 3))
    subject = subject_of((factors + 0.01 * rng.standard_normal(factors.shape)).astype(np.float32), factors)
    values = {}
    for metric in METRICS:
        values |= metric.measure(subject, lambda done: None).values
    scores = {
        "mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "factor_vae_score", "beta_vae_score",
        "sap[r2]", "sap[svm]", "modularity", "explicitness", "irs",
    }  # fmt: skip
    assert scores <= values.keys()
    for name in scores:
        of_random = name.replace("]", ", random code]") if "[" in name else f"{name}[random code]"
        assert values[of_random] < values[name] - 0.05, name
    assert values.keys() - scores - {n for n in values if "random code" in n} == {
        "mig[ceiling]", "dci_informativeness[chance]"
    }  # fmt: skip


def test_scores_are_of_as_many_images_as_their_entries_say() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (3, 4, 5), (10_500, 3))
    codes = (factors + rng.standard_normal(factors.shape)).astype(np.float32)
    found = mig_score(subject_of(codes, factors), lambda done: None)
    assert found.how["n"] == 10_500
    assert found.values["mig"] == mig(codes, factors, images=10_500).score != mig(codes, factors, images=10_000).score


def test_the_seed_decides_what_a_predictor_learns_from_and_the_random_code() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 2, (300, 3))
    codes = (factors + rng.standard_normal(factors.shape)).astype(np.float32)
    first, again, other = (
        other_scores(subject_of(codes, factors, seed), lambda done: None).values for seed in (0, 0, 1)
    )
    assert first == again
    assert first["explicitness"] != other["explicitness"]
    assert first["modularity[random code]"] != other["modularity[random code]"]
