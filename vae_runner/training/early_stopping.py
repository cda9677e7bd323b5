"""When to stop before the last epoch."""

import math
from collections.abc import Mapping, Sequence

from vae_runner.config import EarlyStoppingConfig
from vae_runner.errors import UserError, did_you_mean


class EarlyStopping:
    """Says when a metric has not fallen by more than `min_delta` for `patience` epochs; without a metric, never."""

    def __init__(self, config: EarlyStoppingConfig, metrics: Sequence[str]) -> None:
        if config.metric is not None and config.metric not in metrics:
            raise UserError(
                f"early_stopping.metric={config.metric}: there is no such metric."
                f"{did_you_mean(config.metric, metrics)} Choose from {', '.join(metrics)}."
            )
        self._config = config
        self._best = math.inf
        self._waited = 0

    def should_stop(self, metrics: Mapping[str, float]) -> bool:
        """Take note of an epoch's metrics, and say whether it was the last."""
        if self._config.metric is None:
            return False
        value = metrics[self._config.metric]
        if value < self._best - self._config.min_delta:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        return self._waited >= self._config.patience
