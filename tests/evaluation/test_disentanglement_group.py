from types import SimpleNamespace

import numpy as np

from vae_runner.datasets.dataset import Split
from vae_runner.evaluation.groups.disentanglement import METRICS
from vae_runner.evaluation.schema import DciConfig, DisentanglementConfig, EvaluationConfig
from vae_runner.evaluation.subject import Encoded


def test_a_code_that_is_the_factors_has_a_higher_score_by_each_metric_than_the_random_code_beside_it() -> None:
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (3, 4, 5), (1500, 3))
    codes = (factors + 0.01 * rng.standard_normal(factors.shape)).astype(np.float32)
    encoded = Encoded(Split(np.zeros((1500, 1, 1, 1), np.uint8), None, factors), {"mean": codes})
    subject = SimpleNamespace(
        config=EvaluationConfig(
            dci=DciConfig(samples=1000, test_samples=500), disentanglement=DisentanglementConfig(images=1500)
        ),
        dataset=SimpleNamespace(factor_names=["a", "b", "c"], grid=None),
        with_factors=lambda count: encoded,
    )
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
