import pytest

from vae_runner.config import EarlyStoppingConfig
from vae_runner.errors import UserError
from vae_runner.training.early_stopping import EarlyStopping


def stops_at(values: list[float], **keys: float) -> int | None:
    """The epoch, from 1, after which a run with these test losses stops."""
    stopping = EarlyStopping(EarlyStoppingConfig(metric="test/loss", **keys), ["test/loss"])  # type: ignore[arg-type]
    return next((i for i, v in enumerate(values, 1) if stopping.should_stop({"test/loss": v})), None)


def test_it_stops_after_so_many_epochs_without_an_improvement() -> None:
    assert stops_at([5, 4, 4, 4.5, 3, 3, 3], patience=2) == 4
    assert stops_at([5, 4, 4, 3, 3, 2, 2], patience=2) is None


def test_a_smaller_fall_than_min_delta_is_none() -> None:
    assert stops_at([5, 4.9, 4.8, 4.7], patience=2, min_delta=0.5) == 3
    assert stops_at([5, 4.4, 3.8, 3.2], patience=2, min_delta=0.5) is None


def test_without_a_metric_it_never_stops() -> None:
    stopping = EarlyStopping(EarlyStoppingConfig(metric=None, patience=1), ["test/loss"])
    assert not any(stopping.should_stop({"test/loss": 1.0}) for _ in range(5))


def test_a_metric_that_will_not_be_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"test/los: there is no such metric\. Did you mean 'test/loss'\?"):
        EarlyStopping(EarlyStoppingConfig(metric="test/los"), ["train/loss", "test/loss"])
