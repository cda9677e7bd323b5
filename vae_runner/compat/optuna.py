"""Optuna 2.10, which Hydra's sweeper asks for one trial after the other."""

from collections.abc import Callable
from typing import Any

from optuna.study import Study


def before_each_trial(action: Callable[[], None]) -> None:
    """Do something whenever a study is asked for a trial; what it raises ends the search.

    The sweeper has no hook there, and takes a run's exception for a failed trial. A second call adds to the first.
    """
    ask = Study.ask

    def act_and_ask(self: Study, *arguments: Any, **named: Any) -> Any:
        action()
        return ask(self, *arguments, **named)

    Study.ask = act_and_ask  # type: ignore[method-assign]
