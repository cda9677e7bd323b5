"""metrics.csv: one row an epoch."""

from collections.abc import Sequence
from pathlib import Path

from vae_runner.files.atomic import write_atomic
from vae_runner.files.csv_table import csv_table
from vae_runner.trackers.interface import Tracker
from vae_runner.training.outer import EpochResult
from vae_runner.training.selection import Row


class MetricsTable(Tracker):
    """Keeps the rows, those of earlier epochs included, and replaces the file of them every epoch."""

    def __init__(self, path: Path, rows: Sequence[Row] = ()) -> None:
        self.rows = [dict(row) for row in rows]
        self._path = path
        self._write()

    def epoch(self, result: EpochResult) -> None:
        """Add an epoch's row."""
        self.rows.append(result.row)
        self._write()

    def _write(self) -> None:
        write_atomic(self._path, csv_table(self.rows))
