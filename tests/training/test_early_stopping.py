import pytest

from vae_runner.errors import UserError
from vae_runner.training.early_stopping import check_metric, should_stop
from vae_runner.training.schema import EarlyStoppingConfig


def rows(values: list[float]) -> list[dict[str, float]]:
    return [{"epoch": epoch, "test/loss": value} for epoch, value in enumerate(values, 1)]


def stops_at(values: list[float], **keys: float) -> int | None:
    """The epoch, from 1, after which a run with these test losses stops."""
    config = EarlyStoppingConfig(metric="test/loss", **keys)  # type: ignore[arg-type]
    return next((i for i in range(1, len(values) + 1) if should_stop(config, rows(values[:i]))), None)


def test_it_stops_after_so_many_epochs_without_an_improvement() -> None:
    assert stops_at([5, 4, 4, 4.5, 3, 3, 3], patience=2) == 4
    assert stops_at([5, 4, 4, 3, 3, 2, 2], patience=2) is None
    assert stops_at([5, 7, 6], patience=2) == 3  # it is measured against the lowest, not the last


def test_a_smaller_fall_than_min_delta_is_none() -> None:
    assert stops_at([5, 4.9, 4.8, 4.7], patience=2, min_delta=0.5) == 3
    assert stops_at([5, 4.4, 3.8, 3.2], patience=2, min_delta=0.5) is None


def test_without_a_metric_it_never_stops() -> None:
    assert not should_stop(EarlyStoppingConfig(metric=None, patience=1), rows([1.0] * 5))


def test_a_metric_that_will_not_be_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"early_stopping.metric=test/los: .* Did you mean 'test/loss'\?"):
        check_metric("early_stopping.metric", "test/los", ["train/loss", "test/loss"])
