"""metrics.csv: one row an epoch."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

from vae_runner.training.outer import EpochResult


class MetricsTable:
    """Writes a row at the end of each epoch, and keeps the rows."""

    def __init__(self, path: Path) -> None:
        self.rows: list[dict[str, float]] = []
        self._file = path.open("w", newline="", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, result: EpochResult) -> None:
        """Add an epoch's row, and see that it is on its way to the disk."""
        row = {"epoch": result.epoch, "step": result.step, **result.metrics}
        writer = csv.DictWriter(self._file, row)
        if not self.rows:
            writer.writeheader()
        writer.writerow(row)
        self._file.flush()
        self.rows.append(row)
