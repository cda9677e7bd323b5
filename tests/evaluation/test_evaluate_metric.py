from types import SimpleNamespace

import numpy as np
import pytest

from vae_runner.evaluation.evaluate import Found, Metric, measured
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Training


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_of_a_metric_whose_value_is_no_number_nothing_is_kept(value: float) -> None:
    found = Found({"kl": value}, arrays={"kl": {"kl": np.array([value])}}, pictured={"kl": np.array([value])})
    subject = SimpleNamespace(config=EvaluationConfig(), found={})
    result = measured(subject, Metric("kl", "structure", lambda subject, report: found), lambda done: None)
    assert "the weights, or what they make of images, are no numbers" in result.refusal
    assert result.found == Found({})


@pytest.mark.parametrize(
    ("loss", "weight"),
    [
        ({"kl_weight": 2.0}, 2.0),
        ({"kl_weight": 2}, 2.0),
        ({"kl_weight": 0.0}, None),
        ({}, None),
        ({"kl_weight": 2.0, "free_bits": 0.5}, None),
        ({"kl_weight": 2.0, "free_bits": 0.0, "kl_capacity": None}, 2.0),
        ({"kl_weight": 2.0, "kl_capacity": 0.0}, None),
    ],
)
def test_a_loss_has_a_beta_where_it_weighs_the_kl_term_itself(loss: dict[str, object], weight: float | None) -> None:
    assert Training(loss, None, 1).kl_weight == weight
