"""Of which epoch a run's models are."""

from typing import Any

import pytest

from tests.small_experiments import built
from vae_runner.losses.elbo import Elbo
from vae_runner.training.selection import Selection

VALIDATION = "dataset.validation_fraction=0.2"


def rows(values: list[float]) -> list[dict[str, float]]:
    return [{"epoch": epoch, "validation/loss": value} for epoch, value in enumerate(values, 1)]


def best_epoch(selection: Selection, values: list[float]) -> float | None:
    row = selection.best(rows(values))
    return None if row is None else row["epoch"]


def test_the_best_epoch_is_the_first_of_the_lowest() -> None:
    selection = Selection("validation/loss")
    assert best_epoch(selection, [3, 1, 2, 1]) == 2
    assert best_epoch(selection, []) is None
    assert best_epoch(Selection(None), [3]) is None


@pytest.mark.parametrize(
    ("keys", "settled"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"kl_warmup_epochs": 2.5}, [3, 4, 5, 6]),
        ({"kl_capacity": 5.0, "kl_capacity_epochs": 4.0}, [4, 5, 6]),
        ({"kl_warmup_epochs": 2.0, "kl_cycle_epochs": 3.0}, [2, 3, 5, 6]),  # the third and sixth end a cycle
    ],
)
def test_the_kl_term_is_settled_where_an_epoch_ends_with_its_whole_weight(keys: Any, settled: list[int]) -> None:
    loss = Elbo(**keys)
    assert [epoch for epoch in range(1, 7) if loss.is_settled(epoch)] == settled


def test_epochs_of_a_warm_up_are_not_counted() -> None:
    selection = built(VALIDATION, "loss.kl_warmup_epochs=2", "schedule.warmup_epochs=3").selection
    assert best_epoch(selection, [0, 0, 5, 4, 6]) == 4
    assert best_epoch(selection, [0, 0]) is None
    assert "warm-ups were not over" in selection.why_last(rows([0, 0]))


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ((), "there are no validation images"),
        ((VALIDATION, "checkpoint.metric=null"), "checkpoint.metric=null"),
        ((VALIDATION, "method=factor_vae"), "an opponent"),
        ((VALIDATION, "method=vq_vae"), "codes"),
    ],
)
def test_where_nothing_tells_which_epoch_is_better_the_last_is_taken_and_it_is_said_why(
    overrides: tuple[str, ...], why: str
) -> None:
    selection = built(*overrides).selection
    assert best_epoch(selection, [1, 2]) is None
    assert why in selection.why_last(rows([1, 2]))


def test_a_choice_by_test_images_is_told(caplog: pytest.LogCaptureFixture) -> None:
    built("checkpoint.metric=test/loss", "checkpoint.models=last")
    assert not caplog.messages
    built("checkpoint.metric=test/loss", "early_stopping.metric=test/kl")
    told = [message.split(":")[0] for message in caplog.messages if "no test of them" in message]
    assert told == ["early_stopping.metric=test/kl", "checkpoint.metric=test/loss"]
