"""Optuna 2.10, which Hydra's sweeper asks for one trial after the other."""

from collections.abc import Callable

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import Trial


def before_each_trial(action: Callable[[], None]) -> None:
    """Do something whenever a study is asked for a trial; what it raises ends the search.

    The sweeper has no hook there, and takes a run's exception for a failed trial. A second call adds to the first.
    """
    ask = Study.ask

    def act_and_ask(self: Study, fixed_distributions: dict[str, BaseDistribution] | None = None) -> Trial:
        action()
        return ask(self, fixed_distributions)

    Study.ask = act_and_ask  # type: ignore[method-assign]
