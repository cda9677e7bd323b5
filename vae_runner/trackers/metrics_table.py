"""metrics.csv: one row an epoch."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vae_runner.files.folders import write_whole
from vae_runner.trackers.interface import Tracker
from vae_runner.training.early_stopping import Row
from vae_runner.training.outer import EpochResult


class MetricsTable(Tracker):
    """Keeps the rows, those of the epochs before included, and the file of them: replaced as a whole every epoch."""

    def __init__(self, path: Path, rows: Sequence[Row] = ()) -> None:
        self.rows = [dict(row) for row in rows]
        self._path = path
        self._write()

    def epoch(self, result: EpochResult) -> None:
        """Add an epoch's row."""
        self.rows.append(result.row)
        self._write()

    def _write(self) -> None:
        buffer = io.StringIO(newline="")
        if self.rows:
            writer = csv.DictWriter(buffer, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        write_whole(self._path, buffer.getvalue().encode())
