"""The search that a run belongs to, and which may give it up."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from vae_runner.errors import Pruned
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult

# Takes the result of an epoch; returns why the search gives the run up, or nothing.
Report = Callable[[EpochResult], str]


class SearchReport(Tracker):
    """Reports each epoch to a search.

    It belongs behind the other trackers, which have the epoch then.
    """

    def __init__(self, report: Report, shielded: Callable[[], AbstractContextManager[None]]) -> None:
        """Report inside `shielded()`: a signal in the middle would leave others waiting for the study's lock."""
        self._report = report
        self._shielded = shielded

    def epoch(self, result: EpochResult) -> None:
        """Report the result; raise Pruned where the run is given up."""
        with self._shielded():
            reason = self._report(result)
        if reason:
            raise Pruned(reason)
