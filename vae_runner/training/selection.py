"""Of which epoch a run's models are: it follows from the rows of the metrics table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """What chooses the epoch whose weights are a run's result: a metric that is lowest there, after all warm-ups."""

    metric: str | None  # None: no epoch is better than another, and the last is taken
    reason: str = ""  # why that is so
    is_settled: Callable[[int], bool] = lambda epoch: True  # whether all warm-ups are over after so many epochs

    def best(self, rows: Sequence[Row]) -> Row | None:
        """Return the first row of those after the warm-ups in which the metric is lowest; None where there is none."""
        metric = self.metric
        if metric is None:
            return None
        settled = [row for row in rows if self.is_settled(int(row["epoch"]))]
        return min(settled, key=lambda row: row[metric], default=None)

    def why_last(self, rows: Sequence[Row]) -> str:
        """Return why the models are of the last of these epochs, where `best` gives no other."""
        return self.reason or ("" if self.best(rows) else "the warm-ups were not over before")
