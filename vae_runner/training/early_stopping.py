"""When to stop before the last epoch, which follows from the rows of the metrics table."""

import math
from collections.abc import Sequence

from vae_runner.errors import UserError, did_you_mean
from vae_runner.training.schema import EarlyStoppingConfig
from vae_runner.training.selection import Row

OTHER_METRICS = ("learning_rate", "train/images_per_second", "seconds")  # of an epoch, beside its losses


def check_metric(key: str, metric: str | None, metrics: Sequence[str]) -> None:
    """Refuse a metric, the value of `key`, that is not among those that a run has."""
    if metric is not None and metric not in metrics:
        raise UserError(
            f"{key}={metric}: there is no such metric.{did_you_mean(metric, metrics)} Choose from {', '.join(metrics)}."
        )


def should_stop(config: EarlyStoppingConfig, rows: Sequence[Row]) -> bool:
    """Return whether the metric has not fallen by more than `min_delta` for `patience` epochs; False without one."""
    if config.metric is None:
        return False
    best, waited = math.inf, 0
    for row in rows:
        if row[config.metric] < best - config.min_delta:
            best, waited = row[config.metric], 0
        else:
            waited += 1
    return waited >= config.patience
